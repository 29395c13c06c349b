//! Opens what the registry keeps everything in. Called by every verb that needs it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use deploy_registry::{
    Store, StoreError,
    store::{Location, Others},
};

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

/// A store that a verb works on.
pub(crate) enum Opened {
    /// This process has it.
    Here(Store, Others),
    /// Another process serves this directory, and can be asked.
    Served(PathBuf),
}

/// Opens the store that the arguments name, unless it is a directory that somebody serves.
///
/// # Errors
/// They say what to do about it.
pub(crate) async fn find(storage: &Storage) -> anyhow::Result<Opened> {
    let location = storage.location()?;
    let others = match &location {
        Location::Directory(_) => Others::Offline,
        Location::Memory | Location::Bucket(_) => Others::Served,
    };
    match (open(storage, false).await, location) {
        (Ok(store), _) => Ok(Opened::Here(store, others)),
        (Err(error), Location::Directory(directory)) if error.is::<InUse>() => {
            Ok(Opened::Served(directory))
        }
        (Err(error), _) => Err(error),
    }
}

/// In the chain of an error: another process serves the directory.
#[derive(Debug)]
struct InUse(String);

impl fmt::Display for InUse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn open_directory(directory: &Path) -> anyhow::Result<Store> {
    Store::open(directory).map_err(|error| {
        let hint = match &error {
            StoreError::InUse { .. } => "hint: stop that one first, or use another directory",
            StoreError::Directory { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "hint: create it first, or name another one"
            }
            _ => "hint: it must be a directory that this user may write to",
        };
        let cause = std::error::Error::source(&error)
            .map_or_else(String::new, |cause| format!(": {cause}"));
        let text = format!("{error}{cause}\n{hint}");
        match error {
            StoreError::InUse { .. } => anyhow::Error::msg(InUse(text)),
            _ => anyhow::Error::msg(text),
        }
    })
}
