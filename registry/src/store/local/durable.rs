//! Directories whose entries survive a loss of power. Used for the files of large blobs, which
//! do not go through the journal.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Remembering more directories than this costs more memory than syncing them again costs time.
const REMEMBERED_MAX: usize = 100_000;

/// Makes directories durable, and remembers which ones are.
#[derive(Debug)]
pub(crate) struct Directories {
    root: PathBuf,
    durable: Mutex<HashSet<PathBuf>>,
}

impl Directories {
    /// Everything below `root`, which exists.
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            durable: Mutex::default(),
        }
    }

    /// Creates the directory with all its parents; on return their entries are durable.
    ///
    /// A directory that exists is synced too on the first time: the process that created it
    /// may have died before it did so.
    pub(crate) fn ensure(&self, directory: &Path) -> io::Result<()> {
        if directory == self.root || self.is_durable(directory) {
            return Ok(());
        }
        let Some(parent) = directory.parent() else {
            return Ok(());
        };
        self.ensure(parent)?;
        match fs::create_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody removed the parent that was seen before.
                self.forget(parent);
                fs::create_dir_all(parent)?;
                return self.ensure(directory);
            }
            Err(error) => return Err(error),
        }
        self.sync(parent)?;
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.len() >= REMEMBERED_MAX {
            durable.clear();
        }
        durable.insert(directory.to_owned());
        Ok(())
    }

    /// Forgets that the directory and its parents were seen: somebody removed one of them.
    pub(crate) fn forget(&self, directory: &Path) {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.retain(|known| !directory.starts_with(known));
    }

    /// Waits until all entries of the directory are on stable storage.
    pub(crate) fn sync(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn is_durable(&self, directory: &Path) -> bool {
        let durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.contains(directory)
    }
}
