//! Opens what the registry keeps everything in. Called by every verb that needs it.

use std::{io, path::Path};

use deploy_registry::{Store, StoreError, store::Location};

use crate::arguments::Storage;

/// Opens the store that the arguments name; with `read_only`, nothing is tried that writes.
///
/// # Errors
/// They say what to do about it.
pub(crate) async fn open(storage: &Storage, read_only: bool) -> anyhow::Result<Store> {
    match storage.location()? {
        Location::Memory => Ok(Store::memory()),
        Location::Directory(directory) => open_directory(&directory),
        Location::Bucket(bucket) => {
            // Names and values that are no text are none of ours.
            let environment: Vec<(String, String)> = std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect();
            Ok(Store::connect(&bucket, &environment, read_only).await?)
        }
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
