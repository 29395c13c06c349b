//! `deployctl certificate`

use anyhow::Result;
use deployctl::client::Registry;
use serde::Serialize;

use crate::printer::Printer;

#[derive(Serialize)]
struct Shown {
    certificate: String,
}

pub(super) async fn run(registry: &Registry, printer: &Printer) -> Result<()> {
    let certificate = registry.certificate().await?;
    let shown = Shown { certificate };
    printer.result(&shown, |shown| shown.certificate.clone())?;
    Ok(())
}
