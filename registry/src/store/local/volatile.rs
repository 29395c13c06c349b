//! Objects that need not outlive the process: kept in memory alone, until somebody writes to
//! them or the store is closed. Used by [`super::LocalDirectory`] for [`super::Relaxed`] writes:
//! most uploads end before a byte of their session would have to be on the disk.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use object_store::path::Path;

use super::cache::Entry;

/// All of them together; what does not fit is written to the disk.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// What an entry takes beside its key and its bytes.
const OVERHEAD: usize = 200;

/// The objects, by key.
#[derive(Debug, Default)]
pub(super) struct Volatile {
    objects: Mutex<BTreeMap<Path, Entry>>,
    /// Bytes held; zero tells without the lock that there are none.
    bytes: AtomicUsize,
}

impl Volatile {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Path, Entry>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.bytes.load(Ordering::Acquire) == 0
    }

    /// Takes the object, in place of what was here under its key; false where there is no room.
    pub(super) fn put(&self, key: &Path, entry: Entry) -> bool {
        let mut objects = self.lock();
        let before = objects.get(key).map_or(0, |before| cost(key, before));
        let bytes = self.bytes.load(Ordering::Relaxed) - before + cost(key, &entry);
        if bytes > BYTES_MAX {
            return false;
        }
        objects.insert(key.clone(), entry);
        self.bytes.store(bytes, Ordering::Release);
        true
    }

    pub(super) fn get(&self, key: &Path) -> Option<Entry> {
        if self.is_empty() {
            return None;
        }
        self.lock().get(key).cloned()
    }

    /// Removes the object; false where there is none.
    pub(super) fn remove(&self, key: &Path) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut objects = self.lock();
        let Some(before) = objects.remove(key) else {
            return false;
        };
        self.bytes.fetch_sub(cost(key, &before), Ordering::AcqRel);
        true
    }

    /// Returns the names right in the directory, whose key ends in a slash.
    pub(super) fn names(&self, directory: &str) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        let objects = self.lock();
        objects
            .keys()
            .filter_map(|key| key.as_ref().strip_prefix(directory))
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect()
    }

    /// Returns all of them.
    pub(super) fn all(&self) -> Vec<(Path, Entry)> {
        let objects = self.lock();
        objects
            .iter()
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect()
    }
}

fn cost(key: &Path, entry: &Entry) -> usize {
    key.as_ref().len() + entry.bytes.len() + OVERHEAD
}
