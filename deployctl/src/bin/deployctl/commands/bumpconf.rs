//! `deployctl bumpconf -name NAME -component COMPONENT`

use anyhow::Result;
use deploy_spec::Version;
use deployctl::ops::Project;
use serde::Serialize;

use super::Made;
use crate::{arguments::Bumpconf, printer::Printer};

#[derive(Serialize)]
struct Bumped {
    #[serde(flatten)]
    made: Made,
    component: String,
    version: Version,
    previous: Version,
}

pub(super) async fn run(project: &Project, verb: &Bumpconf, printer: &Printer) -> Result<()> {
    let channel = &verb.release.channel.channel;
    let reason = verb.release.reason.as_deref();
    let bump = project
        .bump_configuration(&verb.name, channel, &verb.component, reason)
        .await?;
    let bumped = Bumped {
        made: Made::new(&bump.outcome),
        component: verb.component.to_string(),
        version: bump.version,
        previous: bump.previous,
    };
    printer.result(&bumped, |bumped| {
        if !bumped.made.changed {
            return bumped.made.line();
        }
        // The original's words, tab and quotes, to be pasted behind the program's name.
        format!(
            "to roll back run:\n\tchangeconf -name=\"{}\" -component=\"{}\" -version=\"{}\"\n{}",
            bumped.made.name,
            bumped.component,
            bumped.previous,
            bumped.made.line()
        )
    })?;
    Ok(())
}
