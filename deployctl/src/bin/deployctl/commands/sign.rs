//! `deployctl sign -name NAME [-release RELEASE] [-rollback]`

use anyhow::{Context as _, Result};
use deploy_spec::{ReleaseNumber, signature::Purpose};
use deployctl::ops::{Project, ReleaseName};
use jiff::Timestamp;
use serde::Serialize;

use crate::{arguments::Sign, printer::Printer};

#[derive(Serialize)]
struct Made {
    name: String,
    repository: String,
    release: Option<ReleaseNumber>,
    id: String,
    purpose: Purpose,
    time: Timestamp,
    key: String,
    signature: String,
}

pub(super) async fn run(project: &Project, verb: &Sign, printer: &Printer) -> Result<()> {
    let signer = project.signer.as_ref();
    let signer = signer.context("there is no key to sign with")?;
    let channel = &verb.channel.channel;
    let asked = verb.release.clone();
    let release = asked.unwrap_or_else(|| ReleaseName::Channel(channel.clone()));
    let purpose = match verb.rollback {
        true => Purpose::Rollback,
        false => Purpose::Release,
    };
    let signed = project
        .sign_release(&verb.name, &release, channel, purpose, signer)
        .await?;
    let made = Made {
        name: verb.name.to_string(),
        repository: signed.statement.repository.to_string(),
        release: signed.statement.number,
        id: signed.statement.release.to_string(),
        purpose: signed.statement.purpose,
        time: signed.statement.time,
        key: signed.fingerprint.to_string(),
        signature: signed.id.to_string(),
    };
    printer.result(&made, |made| {
        let number = made.release.map(|number| format!(" {number}"));
        let number = number.unwrap_or_default();
        format!(
            "{}{number} {}\nsigned by {} as a {}\n",
            made.name, made.id, made.key, made.purpose
        )
    })?;
    Ok(())
}
