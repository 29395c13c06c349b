//! Small objects in memory, as they are on the disk, or that there are none. Filled by [`super::writer`] with what it
//! writes and by reads with what they find; asked by everything that reads.
//!
//! Coherent, because all changes of a directory pass through one thread of this process: it
//! changes the cache right behind the file, and what a read found meanwhile does not come in.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use object_store::path::Path;

use super::files::Stamp;

const KIB: usize = 1024;
/// Larger objects are left to the system's page cache.
pub(super) const CACHED_MAX: usize = 128 * KIB;
/// All objects together, with their keys and what the tables take.
const BYTES_MAX: usize = 32 * 1024 * KIB;
/// Readers wait for each other this rarely.
const SHARDS: usize = 16;
/// What an entry takes beside its key and its bytes.
const OVERHEAD: usize = 200;

/// An object: all its bytes, and which state of it that is.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) bytes: Bytes,
    pub(super) stamp: Stamp,
}

/// Says which state of the cache a read began in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading(u64);

/// The cache.
#[derive(Debug)]
pub(super) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    bytes_max: usize,
}

/// Two generations: what is asked for moves to the younger one, and when that is full, the older
/// one goes. As good as an order of use, and without one.
#[derive(Debug, Default)]
struct Shard {
    changes: u64,
    young: HashMap<Path, Option<Entry>>,
    old: HashMap<Path, Option<Entry>>,
    young_bytes: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self::with_room(BYTES_MAX)
    }
}

impl Cache {
    fn with_room(bytes_max: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            bytes_max,
        }
    }

    fn shard(&self, key: &Path) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(key.as_ref());
        let index = usize::try_from(hash % SHARDS as u64).expect("below 16");
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the object, or that there is none; nothing where neither is known.
    pub(super) fn get(&self, key: &Path) -> Option<Option<Entry>> {
        let mut shard = self.shard(key);
        if let Some(entry) = shard.young.get(key) {
            return Some(entry.clone());
        }
        let (key, entry) = shard.old.remove_entry(key)?;
        shard.insert(key, entry.clone(), self.bytes_max / SHARDS / 2);
        Some(entry)
    }

    /// Returns whether [`Cache::get`] would return something.
    pub(super) fn knows(&self, key: &Path) -> bool {
        let shard = self.shard(key);
        shard.young.contains_key(key) || shard.old.contains_key(key)
    }

    /// Announces that the object is about to be read from the disk.
    pub(super) fn reading(&self, key: &Path) -> Reading {
        Reading(self.shard(key).changes)
    }

    /// Takes what was read, or that nothing is there, unless something changed meanwhile.
    pub(super) fn fill(&self, key: &Path, reading: Reading, entry: Option<Entry>) {
        let mut shard = self.shard(key);
        if shard.changes == reading.0 {
            shard.insert(key.clone(), entry, self.bytes_max / SHARDS / 2);
        }
    }

    /// Says what the object is from now on, or that there is none.
    pub(super) fn change(&self, key: &Path, entry: Option<Entry>) {
        let mut shard = self.shard(key);
        shard.changes += 1;
        shard.remove(key);
        shard.insert(key.clone(), entry, self.bytes_max / SHARDS / 2);
    }

    /// Says that the object may have changed.
    pub(super) fn forget(&self, key: &Path) {
        let mut shard = self.shard(key);
        shard.changes += 1;
        shard.remove(key);
    }
}

impl Shard {
    fn insert(&mut self, key: Path, entry: Option<Entry>, young_max: usize) {
        if (entry.as_ref()).is_some_and(|entry| entry.bytes.len() > CACHED_MAX) {
            return;
        }
        let bytes = cost(&key, &entry);
        if self.young_bytes + bytes > young_max {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.old.remove(&key);
        self.young_bytes += bytes;
        if let Some(before) = self.young.insert(key.clone(), entry) {
            self.young_bytes -= cost(&key, &before);
        }
    }

    fn remove(&mut self, key: &Path) {
        if let Some(before) = self.young.remove(key) {
            self.young_bytes -= cost(key, &before);
        }
        self.old.remove(key);
    }
}

fn cost(key: &Path, entry: &Option<Entry>) -> usize {
    let bytes = entry.as_ref().map_or(0, |entry| entry.bytes.len());
    key.as_ref().len() + bytes + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: &'static [u8]) -> Option<Entry> {
        Some(Entry {
            bytes: Bytes::from_static(bytes),
            stamp: Stamp::default(),
        })
    }

    fn bytes(cache: &Cache, key: &Path) -> Option<Option<Bytes>> {
        Some(cache.get(key)?.map(|entry| entry.bytes))
    }

    #[test]
    fn what_a_read_found_before_a_change_does_not_come_in() {
        let cache = Cache::default();
        let key = Path::from("a/b");
        let reading = cache.reading(&key);
        cache.change(&key, entry(b"new"));
        cache.fill(&key, reading, entry(b"old"));
        assert_eq!(bytes(&cache, &key), Some(Some(Bytes::from("new"))));
        cache.change(&key, None);
        assert_eq!(bytes(&cache, &key), Some(None));
        let reading = cache.reading(&key);
        cache.forget(&key);
        cache.fill(&key, reading, None);
        assert_eq!(bytes(&cache, &key), None);
        cache.fill(&key, cache.reading(&key), entry(b"read"));
        assert_eq!(bytes(&cache, &key), Some(Some(Bytes::from("read"))));
    }

    #[test]
    fn room_is_bounded_and_what_is_asked_for_stays() {
        let cache = Cache::with_room(SHARDS * 2 * 64 * KIB);
        let asked = Path::from("asked");
        cache.change(&asked, entry(b"x"));
        for number in 0..20_000 {
            let key = Path::from(format!("k{number}"));
            cache.change(&key, entry(&[0; 900]));
            assert!(cache.get(&asked).is_some(), "{number}");
        }
        let mut held = 0;
        for shard in &cache.shards {
            let shard = shard.lock().unwrap();
            held += shard
                .young
                .iter()
                .map(|(key, entry)| cost(key, entry))
                .sum::<usize>();
            held += shard
                .old
                .iter()
                .map(|(key, entry)| cost(key, entry))
                .sum::<usize>();
        }
        assert!(held <= SHARDS * 2 * 64 * KIB, "{held}");
    }
}
