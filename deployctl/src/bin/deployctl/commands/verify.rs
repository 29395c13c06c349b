//! `deployctl verify -name NAME [-release RELEASE] -allowed-signers FILE`

use anyhow::{Result, bail};
use deploy_spec::{Digest, ReleaseNumber, signature::Purpose};
use deployctl::{
    ops::{Project, ReleaseName},
    signing::{AllowedSigners, Checked},
};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{
    arguments::Verify,
    printer::Printer,
    table::{columns, time},
};

#[derive(Serialize)]
struct Release {
    name: String,
    release: Option<ReleaseNumber>,
    id: Digest,
    /// Whether one of them counts.
    accepted: bool,
    signatures: Vec<Shown>,
}

/// A signature. Where it does not count, what it says is nobody's word.
#[derive(Serialize)]
struct Shown {
    id: Digest,
    counts: bool,
    why: Option<String>,
    principals: Option<String>,
    key: Option<String>,
    purpose: Option<Purpose>,
    number: Option<ReleaseNumber>,
    time: Option<Timestamp>,
}

impl Shown {
    fn of((id, checked): (Digest, Checked)) -> Self {
        let statement = checked.statement.as_ref();
        Self {
            id,
            counts: checked.wrong.is_none(),
            why: checked.wrong.map(|wrong| wrong.to_string()),
            principals: checked.principals,
            key: checked.fingerprint.map(|key| key.to_string()),
            purpose: statement.map(|statement| statement.purpose),
            number: statement.and_then(|statement| statement.number),
            time: statement.map(|statement| statement.time),
        }
    }

    fn row(&self) -> Vec<String> {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let why = self.why.as_deref().unwrap_or("it counts");
        vec![
            or_none(self.purpose.map(|purpose| purpose.to_string())),
            time(self.time),
            or_none(self.key.clone()),
            or_none(self.principals.clone()),
            visible(why),
        ]
    }
}

/// Part of it may come from whoever made the signature.
fn visible(text: &str) -> String {
    text.replace(char::is_control, "?")
}

pub(super) async fn run(project: &Project, verb: &Verify, printer: &Printer) -> Result<()> {
    let signers = AllowedSigners::load(&verb.allowed_signers, &TimeZone::system())?;
    let asked = verb.release.clone();
    let name = asked.unwrap_or_else(|| ReleaseName::Channel(verb.channel.channel.clone()));
    let found = project.signatures(&verb.name, &name, &signers).await?;
    let signatures: Vec<_> = found.signatures.into_iter().map(Shown::of).collect();
    let release = Release {
        name: verb.name.to_string(),
        release: found.number,
        id: found.release,
        accepted: signatures.iter().any(|shown| shown.counts),
        signatures,
    };
    printer.result(&release, |release| {
        let number = release.release.map(|number| format!(" {number}"));
        let number = number.unwrap_or_default();
        let rows: Vec<_> = release.signatures.iter().map(Shown::row).collect();
        format!(
            "{}{number} {}\n{}",
            release.name,
            release.id,
            columns(&rows)
        )
    })?;
    match (release.accepted, release.signatures.len()) {
        (true, _) => Ok(()),
        (false, 0) => bail!("it has no signature\nhint: `deployctl sign` gives it one"),
        (false, _) => bail!("it has no signature that counts"),
    }
}
