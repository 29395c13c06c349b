//! `deployctl changeconf -name NAME -component COMPONENT -version VERSION`

use anyhow::Result;
use deploy_spec::LayerReference;
use deployctl::ops::{LayerChange, Project};

use super::Made;
use crate::{arguments::Changeconf, printer::Printer};

pub(super) async fn run(project: &Project, verb: &Changeconf, printer: &Printer) -> Result<()> {
    let change = LayerChange {
        configuration: verb.name.clone(),
        channel: verb.release.channel.channel.clone(),
        layer: LayerReference {
            component: verb.component.clone(),
            version: verb.version.clone(),
        },
    };
    let reason = verb.release.reason.as_deref();
    let outcome = project.change_configuration(&change, reason).await?;
    printer.result(&Made::new(&outcome), Made::line)?;
    Ok(())
}
