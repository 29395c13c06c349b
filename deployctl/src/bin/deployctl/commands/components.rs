//! `deployctl components`

use anyhow::Result;
use deployctl::ops::Project;

use crate::printer::Printer;

pub(super) async fn run(project: &Project, printer: &Printer) -> Result<()> {
    super::names(printer, &project.components().await?)
}
