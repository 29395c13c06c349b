//! `deploy-registry completions SHELL`

use anyhow::Result;
use clap::CommandFactory as _;

use crate::{
    arguments::{Arguments, Completions},
    printer,
};

pub(super) fn run(verb: &Completions) -> Result<()> {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(verb.shell, &mut command, "deploy-registry", &mut script);
    printer::print(&script)?;
    Ok(())
}
