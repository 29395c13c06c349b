//! `deployctl logout`

use anyhow::Result;
use deployctl::client;
use serde::Serialize;

use crate::{arguments::Global, printer::Printer, settings};

#[derive(Serialize)]
struct LoggedOut {
    registry: String,
    /// Whether anything was kept.
    changed: bool,
}

pub(super) fn run(global: &Global, printer: &Printer) -> Result<()> {
    let address = settings::address(global)?;
    let file = client::forget(&address, |name| std::env::var_os(name))?;
    let known = settings::known().forget(&address)?;
    let done = LoggedOut {
        registry: address.authority(),
        changed: known || file.is_some(),
    };
    printer.result(&done, |done| match done.changed {
        true => format!("{}: forgotten\n", done.registry),
        false => format!("{}: nothing was kept\n", done.registry),
    })?;
    Ok(())
}
