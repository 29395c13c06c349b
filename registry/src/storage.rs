//! Opens what the registry keeps everything in. Called by every verb that needs it.

use std::{io, path::Path};

use deploy_registry::{Store, StoreError};

use crate::arguments::{Place, Storage};

/// Opens the store that the arguments name.
///
/// # Errors
/// They say what to do about it.
pub(crate) fn open(storage: &Storage) -> anyhow::Result<Store> {
    match storage.place() {
        Place::Memory => Ok(Store::memory()),
        Place::Directory(directory) => open_directory(&directory),
    }
}

fn open_directory(directory: &Path) -> anyhow::Result<Store> {
    Store::open(directory).map_err(|error| {
        let hint = match &error {
            StoreError::InUse { .. } => "hint: stop that one first, or use another directory",
            StoreError::Directory { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "hint: create it, or name another one with `--dir`"
            }
            _ => "hint: it must be a directory that this user may write to",
        };
        let cause = std::error::Error::source(&error)
            .map_or_else(String::new, |cause| format!(": {cause}"));
        anyhow::anyhow!("{error}{cause}\n{hint}")
    })
}
