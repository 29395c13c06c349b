//! `deployctl addconf -name NAME -layer COMPONENT:VERSION…`

use anyhow::Result;
use deployctl::ops::Project;

use super::Made;
use crate::{arguments::Addconf, printer::Printer};

pub(super) async fn run(project: &Project, verb: &Addconf, printer: &Printer) -> Result<()> {
    let channel = &verb.release.channel.channel;
    let reason = verb.release.reason.as_deref();
    let outcome = project
        .add_configuration(&verb.name, channel, &verb.layers, reason)
        .await?;
    printer.result(&Made::new(&outcome), Made::line)?;
    Ok(())
}
