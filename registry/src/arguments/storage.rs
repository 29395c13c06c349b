//! Where everything is kept: flags that all verbs share.

use std::path::PathBuf;

use clap::Args;
use deploy_registry::store::{Location, LocationError};

/// The flags that say where everything is kept.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Storage")]
pub(crate) struct Storage {
    /// Directory that holds everything; it must exist, and one process may use it at a time.
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/var/lib/deploy-registry",
        conflicts_with_all = ["memory", "store"]
    )]
    dir: PathBuf,

    /// Keeps everything in memory instead, until the process ends.
    #[arg(long, conflicts_with = "store")]
    memory: bool,

    /// Keeps everything there instead: s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or
    /// gs://BUCKET/PREFIX, which any number of processes may serve at a time; file:///DIRECTORY
    /// and memory:/// are --dir and --memory. Credentials and endpoints come from the
    /// environment: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AZURE_STORAGE_ACCOUNT,
    /// GOOGLE_APPLICATION_CREDENTIALS and so on.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

impl Storage {
    /// Returns what the flags name.
    ///
    /// # Errors
    /// Where the URL names no place.
    pub(crate) fn location(&self) -> Result<Location, LocationError> {
        match (&self.store, self.memory) {
            // Looked at here, not by clap, which would repeat what it holds.
            (Some(url), _) => url.parse(),
            (None, true) => Ok(Location::Memory),
            (None, false) => Ok(Location::Directory(self.dir.clone())),
        }
    }
}
