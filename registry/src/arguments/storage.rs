//! Where everything is kept: flags that all verbs share.

use std::path::PathBuf;

use clap::Args;

/// The flags that say where everything is kept.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Storage")]
pub(crate) struct Storage {
    /// Directory that holds everything; it must exist, and one process may use it at a time.
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/var/lib/deploy-registry",
        conflicts_with = "memory"
    )]
    dir: PathBuf,

    /// Keeps everything in memory instead, until the process ends.
    #[arg(long)]
    memory: bool,
}

/// Where everything is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Directory(PathBuf),
    Memory,
}

impl Storage {
    /// Returns what the flags name.
    pub(crate) fn place(&self) -> Place {
        match self.memory {
            true => Place::Memory,
            false => Place::Directory(self.dir.clone()),
        }
    }
}
