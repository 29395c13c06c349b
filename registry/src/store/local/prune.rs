//! Removing directories that nothing is in any more. Blocking work on a blocking thread.

use std::{
    fs, io,
    path::Path as FilePath,
    time::{Duration, SystemTime},
};

use object_store::path::Path;

use super::{LocalDirectory, files::generic, walk::is_absent};
use crate::store::error::StoreError;

/// A directory that changed a shorter time ago may be about to get its first file. Whoever puts
/// one into a directory that we remove makes it again, so this only saves trouble.
const AGE: Duration = Duration::from_secs(60 * 60);

impl LocalDirectory {
    /// Removes empty directories below `prefix`, that one excepted, and returns how many.
    pub(in crate::store) async fn remove_empty(&self, prefix: &Path) -> Result<u64, StoreError> {
        let inner = self.inner().clone();
        let top = inner.file(prefix);
        let pruned = super::blocking(move || {
            let mut removed = 0;
            let forget = |directory: &FilePath| inner.directories.forget(directory);
            prune(&top, true, &forget, &mut removed).map_err(|error| generic(&top, error))?;
            Ok(removed)
        });
        Ok(pruned.await?)
    }
}

/// Removes what is empty below a directory, then the directory itself unless it is the top.
fn prune(
    directory: &FilePath,
    is_top: bool,
    forget: &impl Fn(&FilePath),
    removed: &mut u64,
) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if is_absent(&error) => return Ok(()),
        entries => entries?,
    };
    let mut is_empty = true;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            prune(&entry.path(), false, forget, removed)?;
        }
        is_empty = false;
    }
    if is_top || !is_empty || !is_old(directory)? {
        return Ok(());
    }
    // It is remembered as durable; if somebody makes it again, it must be synced again.
    forget(directory);
    match fs::remove_dir(directory) {
        Ok(()) => *removed += 1,
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        Err(error) if is_absent(&error) => {}
        Err(error) => return Err(error),
    }
    forget(directory);
    Ok(())
}

fn is_old(directory: &FilePath) -> io::Result<bool> {
    let modified = match fs::metadata(directory) {
        Err(error) if is_absent(&error) => return Ok(false),
        metadata => metadata?.modified()?,
    };
    Ok(SystemTime::now()
        .duration_since(modified)
        .is_ok_and(|age| age >= AGE))
}
