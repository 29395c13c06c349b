//! `deployctl showcomp -name NAME`

use anyhow::Result;
use deployctl::ops::Project;

use crate::{
    arguments::Showcomp,
    printer::Printer,
    table::{columns, time},
};

pub(super) async fn run(project: &Project, verb: &Showcomp, printer: &Printer) -> Result<()> {
    let versions = project.show_component(&verb.name).await?;
    printer.result(&versions, |versions| {
        let rows = versions
            .iter()
            .map(|shown| vec![time(shown.created), shown.version.to_string()]);
        columns(&rows.collect::<Vec<_>>())
    })?;
    Ok(())
}
