//! `deployctl audit [-since TIME] [-until TIME] [-name NAME | -component NAME] [-n N]`

use anyhow::Result;
use deploy_spec::{
    Digest,
    audit::{Actor, Entry, action, kind},
};
use deployctl::{client::AuditQuestion, ops::Project};

use crate::{
    arguments::Audit,
    printer::Printer,
    table::{columns, time},
};

/// As much of a digest or a fingerprint tells two of them apart.
const SHORT: usize = 12;

pub(super) async fn run(project: &Project, verb: &Audit, printer: &Printer) -> Result<()> {
    let now = (project.clock)();
    let configuration = verb.name.as_ref().map(|name| project.configuration(name));
    let component = (verb.component.as_ref()).map(|name| project.component(name));
    let question = AuditQuestion {
        since: Some(verb.since.before(now)),
        until: verb.until.as_ref().map(|until| until.before(now)),
        repository: (configuration.or(component)).map(|repository| repository.name().clone()),
    };
    let last = Some(verb.n).filter(|n| *n > 0);
    let lines = project.audit(&question, last).await?;
    printer.result(&lines, |lines| {
        columns(&lines.iter().map(row).collect::<Vec<_>>())
    })?;
    Ok(())
}

/// When, who, what, where, what of it, from where.
fn row(entry: &Entry) -> Vec<String> {
    let peer = entry.peer.as_deref().unwrap_or("-");
    let cells = [
        time(Some(entry.time)),
        who(&entry.actor),
        entry.action.to_string(),
        place(entry),
        story(entry),
        peer.to_owned(),
    ];
    cells
        .iter()
        .map(|cell| deployctl::report::visible(cell))
        .collect()
}

fn who(actor: &Actor) -> String {
    match (&actor.name, &actor.comment) {
        (Some(name), Some(comment)) if actor.kind == kind::KEY => {
            format!("{comment} {}", short(name))
        }
        (Some(name), _) => name.clone(),
        (None, _) => actor.kind.to_string(),
    }
}

fn place(entry: &Entry) -> String {
    let Some(repository) = &entry.repository else {
        return "-".to_owned();
    };
    match entry.reference.as_deref() {
        Some(digest) if digest.contains(':') => format!("{repository}@{}", short(digest)),
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.clone(),
    }
}

fn story(entry: &Entry) -> String {
    let mut words = Vec::new();
    let digest = |digest: &Option<Digest>| match digest {
        Some(digest) => short(&digest.to_string()),
        None => "nothing".to_owned(),
    };
    if matches!(&*entry.action, action::TAG_MOVE | action::TAG_DELETE) {
        words.push(format!(
            "{} -> {}",
            digest(&entry.before),
            digest(&entry.after)
        ));
    }
    if let Some(asked) = &entry.asked {
        words.push(asked.clone());
    }
    if let Some(status) = entry.status {
        words.push(status.to_string());
    }
    if let Some(reason) = &entry.reason {
        words.push(format!("({reason})"));
    }
    if let Some(more) = entry.more {
        words.push(format!("and {more} more"));
    }
    match words.is_empty() {
        true => "-".to_owned(),
        false => words.join(" "),
    }
}

fn short(text: &str) -> String {
    match text.split_once(':') {
        Some((label, rest)) => {
            let rest: String = rest.chars().take(SHORT).collect();
            format!("{label}:{rest}")
        }
        None => text.to_owned(),
    }
}
