//! `deploy-registry man [DIRECTORY]`

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use crate::{
    arguments::{Arguments, Man},
    printer,
};

pub(super) fn run(verb: &Man) -> Result<()> {
    let command = Arguments::command();
    match &verb.directory {
        Some(directory) => {
            let cannot = || format!("cannot write manual pages to `{}`", directory.display());
            std::fs::create_dir_all(directory).with_context(cannot)?;
            clap_mangen::generate_to(command, directory).with_context(cannot)
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            printer::print(&page)?;
            Ok(())
        }
    }
}
