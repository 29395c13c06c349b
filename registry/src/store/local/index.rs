//! The names in directories that were listed, sorted, in memory: a page of a listing costs what
//! the page holds, however many names there are. Kept by [`super::writer`], asked by
//! [`super::walk`].

use std::{
    collections::{BTreeSet, HashMap},
    io,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Names of all directories together. Beyond it, those go that were not used for longest.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a name takes beside its letters, and a directory beside its names.
const OVERHEAD: usize = 32;

/// Sorted names of directories.
///
/// A directory is its key with a slash at the end (or empty, for the top); in it, names of
/// directories have a slash at the end, too: it takes part in the order.
#[derive(Debug, Default)]
pub(super) struct Index(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    directories: HashMap<Box<str>, Directory>,
    bytes: usize,
    /// Counts questions, to tell what was used last.
    clock: u64,
}

#[derive(Debug)]
enum Directory {
    /// It is being read; this changed meanwhile.
    Reading(Vec<(Box<str>, Change)>),
    Known {
        names: BTreeSet<Box<str>>,
        bytes: usize,
        used: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
}

/// Some names of a directory, and whether there are more behind them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) names: Vec<String>,
    pub(super) more: bool,
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns up to `limit` names from `from` on; nothing where the directory is not known.
    pub(super) fn names(&self, directory: &str, from: Bound<&str>, limit: usize) -> Option<Names> {
        let mut state = self.lock();
        state.clock += 1;
        let clock = state.clock;
        let Some(Directory::Known { names, used, .. }) = state.directories.get_mut(directory)
        else {
            return None;
        };
        *used = clock;
        let mut behind = names.range::<str, _>((from, Bound::Unbounded));
        let names = behind
            .by_ref()
            .take(limit)
            .map(ToString::to_string)
            .collect();
        Some(Names {
            names,
            more: behind.next().is_some(),
        })
    }

    /// Returns whether it is known that there is no object of this key.
    pub(super) fn lacks(&self, key: &str) -> bool {
        let (directory, name) = split(key);
        let state = self.lock();
        match state.directories.get(directory) {
            Some(Directory::Known { names, .. }) => !names.contains(name),
            _ => false,
        }
    }

    /// Makes the directory known, by what `read` returns of it, and returns that, sorted.
    /// Changes that are announced meanwhile are not lost.
    pub(super) fn learn(
        &self,
        directory: &str,
        read: impl FnOnce() -> io::Result<Vec<String>>,
    ) -> io::Result<Vec<String>> {
        let ours = match self.lock().directories.entry(directory.into()) {
            // Another listing reads it right now; one of them is enough.
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Directory::Reading(Vec::new()));
                true
            }
        };
        let read = read();
        if !ours {
            return sorted(read?);
        }
        let mut state = self.lock();
        let Some(Directory::Reading(changes)) = state.directories.remove(directory) else {
            return sorted(read?);
        };
        let mut names: BTreeSet<Box<str>> = read?.into_iter().map(String::into).collect();
        for (name, change) in changes {
            match change {
                Change::Added => names.insert(name),
                Change::Removed => names.remove(&name),
            };
        }
        let listed = names.iter().map(ToString::to_string).collect();
        let bytes = directory.len() + OVERHEAD + names.iter().map(|name| cost(name)).sum::<usize>();
        if bytes <= BYTES_MAX / 2 {
            state.bytes += bytes;
            state.clock += 1;
            let used = state.clock;
            let known = Directory::Known { names, bytes, used };
            state.directories.insert(directory.into(), known);
            state.shrink();
        }
        Ok(listed)
    }

    /// Says that there is an object of this key now.
    pub(super) fn add(&self, key: &str) {
        let mut state = self.lock();
        if state.directories.is_empty() {
            return;
        }
        // With it, directories on the way may have come to be.
        let mut path = key;
        loop {
            let (directory, name) = split(path);
            state.change(directory, name, Change::Added);
            if directory.is_empty() {
                break;
            }
            path = directory;
        }
        state.shrink();
    }

    /// Says that there is no object of this key now. Directories stay.
    pub(super) fn remove(&self, key: &str) {
        let (directory, name) = split(key);
        self.lock().change(directory, name, Change::Removed);
    }
}

impl State {
    fn change(&mut self, directory: &str, name: &str, change: Change) {
        let more = match self.directories.get_mut(directory) {
            None => return,
            Some(Directory::Reading(changes)) => {
                changes.push((name.into(), change));
                return;
            }
            Some(Directory::Known { names, bytes, .. }) => {
                let cost = cost(name);
                match change {
                    Change::Added if names.insert(name.into()) => {
                        *bytes += cost;
                        cost
                    }
                    Change::Removed if names.remove(name) => {
                        *bytes -= cost;
                        self.bytes -= cost;
                        return;
                    }
                    _ => return,
                }
            }
        };
        self.bytes += more;
    }

    /// Forgets what was not used for longest, a quarter at a time.
    fn shrink(&mut self) {
        if self.bytes <= BYTES_MAX {
            return;
        }
        let mut by_use: Vec<(u64, Box<str>)> = (self.directories.iter())
            .filter_map(|(key, directory)| match directory {
                Directory::Known { used, .. } => Some((*used, key.clone())),
                Directory::Reading(_) => None,
            })
            .collect();
        by_use.sort_unstable();
        for (_, key) in by_use {
            if self.bytes <= BYTES_MAX / 4 * 3 {
                break;
            }
            if let Some(Directory::Known { bytes, .. }) = self.directories.remove(&key) {
                self.bytes -= bytes;
            }
        }
    }
}

fn cost(name: &str) -> usize {
    name.len() + OVERHEAD
}

fn sorted(mut names: Vec<String>) -> io::Result<Vec<String>> {
    names.sort_unstable();
    Ok(names)
}

/// Splits a key, of an object or of a directory, into its directory and its name.
fn split(key: &str) -> (&str, &str) {
    let end = key.strip_suffix('/').unwrap_or(key);
    let start = end.rfind('/').map_or(0, |slash| slash + 1);
    key.split_at(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(index: &Index, directory: &str) -> Option<Vec<String>> {
        let names = index.names(directory, Bound::Unbounded, 100)?;
        assert!(!names.more);
        Some(names.names)
    }

    #[test]
    fn keys_split_into_directory_and_name() {
        for (key, expected) in [
            ("a", ("", "a")),
            ("a/b", ("a/", "b")),
            ("a/b/", ("a/", "b/")),
            ("a/", ("", "a/")),
        ] {
            assert_eq!(split(key), expected);
        }
    }

    #[test]
    fn changes_are_seen_also_those_made_while_a_directory_is_read() {
        let index = Index::default();
        index.add("a/before");
        assert_eq!(names(&index, "a/"), None);
        let listed = index.learn("a/", || {
            index.add("a/new");
            index.remove("a/gone");
            index.add("a/below/x");
            assert!(!index.lacks("a/gone"));
            Ok(vec!["gone".to_owned(), "b".to_owned()])
        });
        assert_eq!(listed.unwrap(), ["b", "below/", "new"]);
        index.remove("a/b");
        index.add("a/c");
        assert_eq!(names(&index, "a/").unwrap(), ["below/", "c", "new"]);
        assert!(index.lacks("a/b") && !index.lacks("a/c") && !index.lacks("x/b"));
        let page = index.names("a/", Bound::Excluded("below/"), 1).unwrap();
        assert_eq!((page.names, page.more), (vec!["c".to_owned()], true));
        let state = index.lock();
        let held = "a/".len() + OVERHEAD + ["below/", "c", "new"].map(cost).iter().sum::<usize>();
        assert_eq!(state.bytes, held);
    }

    #[test]
    fn memory_is_bounded_and_what_was_used_last_stays() {
        let index = Index::default();
        let name = "n".repeat(1000);
        for number in 0..40 {
            let many = (0..500).map(|other| format!("{name}{other}")).collect();
            index.learn(&format!("{number}/"), || Ok(many)).unwrap();
            assert!(index.lock().bytes <= BYTES_MAX);
        }
        assert!(index.names("0/", Bound::Unbounded, 1).is_none());
        assert!(index.names("39/", Bound::Unbounded, 1).is_some());
    }
}
