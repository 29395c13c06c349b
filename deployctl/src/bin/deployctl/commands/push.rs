//! `deployctl push COMPONENT:VERSION PATH…`

use anyhow::Result;
use deployctl::{archive::PackOptions, ops::Project};

use crate::{arguments::Push, printer::Printer, progress::Bar, settings};

pub(super) async fn run(project: &Project, verb: &Push, printer: &Printer) -> Result<()> {
    let options = PackOptions {
        compression: verb.compression.into(),
        source_date: settings::source_date()?,
    };
    let bar = Bar::new(&verb.reference.to_string(), None);
    let revision = verb.revision.as_deref();
    let added = project
        .push(
            &verb.reference,
            &verb.paths,
            options,
            revision,
            &bar.progress(),
        )
        .await?;
    drop(bar);
    super::added(printer, &added)
}
