//! `deploy-registry scrub`: reads and checks everything that is stored, here or through the
//! process that serves the directory.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use deploy_registry::{
    jobs::{Answer, ask},
    store::{Mode, Scrub, Scrubbed},
};

use super::{block_on, told_to_stop};
use crate::{
    arguments::{Output, ScrubVerb},
    log::Log,
    printer,
    storage::{self, Opened},
};

pub(super) fn run(verb: &ScrubVerb) -> Result<()> {
    Log::start(verb.log_format, None);
    let answer = block_on(work(verb))?;
    let scrubbed = match answer {
        Answer::Scrubbed(scrubbed) => scrubbed,
        Answer::Discarded(count) => {
            let text = match verb.output {
                Output::Json => format!("{}\n", serde_json::json!({ "discarded": count })),
                Output::Text => format!("discarded {count} objects\n"),
            };
            printer::print(text.as_bytes())?;
            return Ok(());
        }
        other => bail!("the registry did something else: {other:?}"),
    };
    let text = match verb.output {
        Output::Json => format!("{:#}\n", serde_json::to_value(&scrubbed)?),
        Output::Text => report(&scrubbed)?,
    };
    printer::print(text.as_bytes())?;
    match (scrubbed.damaged.len(), scrubbed.unreadable.len()) {
        (0, 0) => Ok(()),
        (0, unreadable) => bail!("{unreadable} objects could not be read"),
        (damaged, _) => bail!(
            "{damaged} objects are damaged\n\
             hint: push what is named above once more, from wherever it is whole"
        ),
    }
}

async fn work(verb: &ScrubVerb) -> Result<Answer> {
    let store = match storage::find(&verb.storage).await? {
        Opened::Here(store, _) => store,
        Opened::Served(directory) => {
            let mut tell = |answer: &Answer| {
                if let Answer::Scrubbing(so_far) = answer {
                    let (blobs, bytes) = (so_far.blobs, so_far.bytes);
                    tracing::info!(blobs, bytes, damaged = so_far.damaged.len(), "scrubbing");
                }
            };
            return Ok(ask(&directory, &verb.wish(), &mut tell).await?);
        }
    };
    if verb.discard {
        let discarded = store.empty_quarantine().await?;
        store.settle().await?;
        return Ok(Answer::Discarded(discarded));
    }
    let mode = match verb.is_dry_run() {
        true => Mode::DryRun,
        false => Mode::Do,
    };
    let stopped = told_to_stop()?;
    let scrub = Scrub::new(mode, verb.rate(), |pace| pace.until(stopped));
    let done = store.scrub(&scrub, &mut |_| {}).await;
    store.settle().await?;
    Ok(Answer::Scrubbed(done?))
}

fn report(scrubbed: &Scrubbed) -> Result<String> {
    let mut text = String::new();
    for damage in &scrubbed.damaged {
        let kind = match &damage.repository {
            Some(repository) => format!("manifest in {repository}"),
            None => "blob".to_owned(),
        };
        writeln!(text, "damaged: {kind} {}: {}", damage.digest, damage.reason)?;
        if let Some(aside) = &damage.set_aside {
            writeln!(text, "  set aside as {aside}")?;
        }
        for tag in &damage.hurts {
            writeln!(text, "  hurts {tag}")?;
        }
    }
    for (key, reason) in &scrubbed.unreadable {
        writeln!(text, "cannot be read: {key}: {reason}")?;
    }
    writeln!(
        text,
        "checked {} blobs and {} manifests, {}",
        scrubbed.blobs,
        scrubbed.manifests,
        printer::size(scrubbed.bytes)
    )?;
    Ok(text)
}
