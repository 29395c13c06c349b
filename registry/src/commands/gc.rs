//! `deploy-registry gc`: removes what nobody needs any more, here or through the process that
//! serves the directory.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use deploy_registry::{
    AuditLog,
    jobs::{Answer, ask, collect_audited},
    store::{Collected, Kind, Progress},
};
use serde_json::json;

use super::{block_on, told_to_stop};
use crate::{
    arguments::{GcVerb, Output},
    log::Log,
    printer,
    storage::{self, Opened},
};

pub(super) fn run(verb: &GcVerb) -> Result<()> {
    Log::start(verb.log_format, None);
    let collected = block_on(work(verb))?;
    let text = match verb.output {
        Output::Json => {
            let mut report = serde_json::to_value(&collected)?;
            report["dry_run"] = json!(verb.is_dry_run());
            format!("{report:#}\n")
        }
        Output::Text => table(&collected, verb.is_dry_run())?,
    };
    printer::print(text.as_bytes())?;
    Ok(())
}

async fn work(verb: &GcVerb) -> Result<Collected> {
    let (store, others) = match storage::find(&verb.storage).await? {
        Opened::Here(store, others) => (store, others),
        Opened::Served(directory) => {
            let mut tell = |answer: &Answer| {
                if let Answer::Collecting(so_far) = answer {
                    let removed = so_far.removed_bytes();
                    tracing::info!(
                        manifests = so_far.manifests.found,
                        blobs = so_far.blobs.found,
                        bytes.removed = removed,
                        "collecting"
                    );
                }
            };
            return match ask(&directory, &verb.wish(), &mut tell).await? {
                Answer::Collected(collected) => Ok(collected),
                other => bail!("the registry did something else: {other:?}"),
            };
        }
    };
    let progress = Progress::default();
    let (gc, audit) = (verb.gc(), AuditLog::new(store.clone()));
    let stop = told_to_stop()?;
    let done = collect_audited(&store, &gc, others, &progress, stop, &audit).await;
    audit.close().await;
    store.settle().await?;
    Ok(done?)
}

fn table(collected: &Collected, is_dry_run: bool) -> Result<String> {
    let mut text = String::new();
    let removed = match is_dry_run {
        true => "would go",
        false => "removed",
    };
    let (count, bytes) = ("", "bytes");
    writeln!(
        text,
        "{count:<12} {:>9} {bytes:>11}  {:>9} {bytes:>11}  {removed:>9} {bytes:>11}  {:>8}",
        "found", "condemned", "revived"
    )?;
    for kind in Kind::ALL {
        let counts = collected.counts(kind);
        writeln!(
            text,
            "{:<12} {:>9} {:>11}  {:>9} {:>11}  {:>9} {:>11}  {:>8}",
            kind.name(),
            counts.found,
            printer::size(counts.found_bytes),
            counts.condemned,
            printer::size(counts.condemned_bytes),
            counts.removed,
            printer::size(counts.removed_bytes),
            counts.revived
        )?;
    }
    if collected.unreadable > 0 {
        writeln!(
            text,
            "{} objects cannot be read; what they may need stays. hint: `deploy-registry scrub`",
            collected.unreadable
        )?;
    }
    Ok(text)
}
