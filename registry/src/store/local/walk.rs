//! Listing the files of a directory tree in the order of their keys. Used by
//! [`super::LocalDirectory`] alone.

use std::{fs, io, ops::Bound};

use super::files::Tree;

/// Names are taken from the index so many at a time.
const CHUNK: usize = 256;

/// A walk over all files below a directory, in bytewise order of their keys.
///
/// What appears or goes meanwhile may or may not be seen. Names that begin with a dot in the
/// top directory are not objects.
#[derive(Debug)]
pub(super) struct Walk {
    levels: Vec<Level>,
    after: Option<String>,
    /// A directory still to be entered: reading it was refused.
    waiting: Option<String>,
}

/// A directory on the way to where the walk is.
#[derive(Debug)]
struct Level {
    /// Its key, which ends in a slash.
    directory: String,
    names: std::vec::IntoIter<String>,
    /// Where the index knows more names: behind this one.
    rest: Option<String>,
}

/// Names from an offset on.
type From<'a> = Bound<&'a str>;

impl Walk {
    /// Below the key `prefix` (empty: everything), from behind the key `after`.
    pub(super) fn new(prefix: &str, after: Option<String>) -> Self {
        let below = match prefix {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Self {
            levels: Vec::new(),
            after,
            waiting: Some(below),
        }
    }

    /// Returns the next key, from memory or the disk.
    pub(super) fn next(&mut self, tree: &Tree) -> io::Result<Option<String>> {
        loop {
            match self.next_in_memory(tree) {
                Ok(next) => return Ok(next),
                Err(Unread) => self.read(tree)?,
            }
        }
    }

    /// Returns the next key.
    ///
    /// # Errors
    /// [`Unread`] where a directory must be read for it. Nothing is lost then: ask again where
    /// that may be done, by [`Walk::next`].
    pub(super) fn next_in_memory(&mut self, tree: &Tree) -> Result<Option<String>, Unread> {
        if let Some(directory) = &self.waiting {
            let names = names_in_memory(tree, directory, from(&self.after, directory));
            let Some((names, rest)) = names else {
                return Err(Unread);
            };
            self.enter(names, rest);
        }
        while let Some(level) = self.levels.last_mut() {
            match level.names.next() {
                Some(name) if name.ends_with('/') => {
                    self.waiting = Some(format!("{}{name}", level.directory));
                    return self.next_in_memory(tree);
                }
                Some(name) => return Ok(Some(format!("{}{name}", level.directory))),
                None => match level.rest.take() {
                    None => {
                        self.levels.pop();
                    }
                    Some(last) => {
                        let from = Bound::Excluded(last.as_str());
                        match names_in_memory(tree, &level.directory, from) {
                            Some((names, rest)) => {
                                level.names = names.into_iter();
                                level.rest = rest;
                            }
                            None => {
                                level.rest = Some(last);
                                return Err(Unread);
                            }
                        }
                    }
                },
            }
        }
        Ok(None)
    }

    /// Reads the directory that the walk waits for.
    fn read(&mut self, tree: &Tree) -> io::Result<()> {
        if let Some(directory) = &self.waiting {
            let names = names_on_disk(tree, directory, from(&self.after, directory))?;
            self.enter(names, None);
        } else if let Some(level) = self.levels.last_mut()
            && let Some(last) = level.rest.take()
        {
            let from = Bound::Excluded(last.as_str());
            level.names = names_on_disk(tree, &level.directory, from)?.into_iter();
        }
        Ok(())
    }

    fn enter(&mut self, names: Vec<String>, rest: Option<String>) {
        let directory = self.waiting.take().unwrap_or_default();
        self.levels.push(Level {
            directory,
            names: names.into_iter(),
            rest,
        });
    }
}

/// A directory must be read from the disk first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread;

/// Returns which names of the directory stand behind the key `after`, or hold what does.
fn from<'a>(after: &'a Option<String>, directory: &str) -> From<'a> {
    match after
        .as_deref()
        .and_then(|after| after.strip_prefix(directory))
    {
        None => Bound::Unbounded,
        // The slash takes part in the order: `a-b` stands before everything in `a/`.
        Some(rest) => match rest.split_inclusive('/').next() {
            Some(below) if below.ends_with('/') => Bound::Included(below),
            _ => Bound::Excluded(rest),
        },
    }
}

/// Returns some names, and the last of them where there are more; nothing where the index does
/// not know the directory.
fn names_in_memory(
    tree: &Tree,
    directory: &str,
    from: From<'_>,
) -> Option<(Vec<String>, Option<String>)> {
    let found = tree.index.names(directory, from, CHUNK)?;
    let last = found.names.last().filter(|_| found.more).cloned();
    Some((found.names, last))
}

/// Returns all names, and lets the index know them.
fn names_on_disk(tree: &Tree, directory: &str, from: From<'_>) -> io::Result<Vec<String>> {
    let read = || read(tree, directory);
    // Files of data come and go without the index.
    let mut names = match super::is_data(directory) || directory.is_empty() {
        true => {
            let mut names = read()?;
            names.sort_unstable();
            names
        }
        false => tree.index.learn(directory, read)?,
    };
    names.retain(|name| match from {
        Bound::Unbounded => true,
        Bound::Included(from) => name.as_str() >= from,
        Bound::Excluded(from) => name.as_str() > from,
    });
    Ok(names)
}

/// Reads a directory; one that is absent is empty.
fn read(tree: &Tree, directory: &str) -> io::Result<Vec<String>> {
    let mut names = tree.volatile.names(directory);
    let entries = match fs::read_dir(tree.root.join(directory)) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(names),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(mut name) = entry.file_name().into_string() else {
            continue;
        };
        if directory.is_empty() && name.starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            name.push('/');
        }
        names.push(name);
    }
    // One that is in memory may be on the disk as well.
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// True where the error says that there is no such file, or no directory on the way to it.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(tree: &Tree, prefix: &str, after: Option<&str>) -> Vec<String> {
        let mut walk = Walk::new(prefix, after.map(str::to_owned));
        std::iter::from_fn(|| walk.next(tree).unwrap()).collect()
    }

    #[test]
    fn keys_come_sorted_bytewise_from_behind_the_offset() {
        let directory = tempfile::tempdir().unwrap();
        let mut keys_there = [
            "a/b/c",
            "a/b-c",
            "a/b.c",
            "a/b0",
            "a/b/a",
            "z",
            "a-z",
            ".hidden/x",
        ];
        for key in keys_there {
            let file = directory.path().join(key);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        keys_there.sort_unstable();
        let visible = &keys_there[1..];
        let tree = Tree::new(directory.path().to_owned());
        // From the disk the first time, from memory the second.
        for _ in 0..2 {
            assert_eq!(keys(&tree, "", None), visible);
            for (index, key) in visible.iter().enumerate() {
                assert_eq!(
                    keys(&tree, "", Some(key)),
                    visible[index + 1..],
                    "after {key}"
                );
            }
            assert_eq!(keys(&tree, "a/b", None), ["a/b/a", "a/b/c"]);
            assert_eq!(keys(&tree, "a", Some("a/b/b")), ["a/b/c", "a/b0"]);
            assert_eq!(keys(&tree, "absent", None), [""; 0]);
            assert_eq!(keys(&tree, "z", None), [""; 0]);
        }
        let mut walk = Walk::new("a", None);
        assert_eq!(walk.next_in_memory(&tree), Ok(Some("a/b-c".to_owned())));
    }

    #[test]
    fn long_directories_come_whole_from_memory_and_from_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::new(directory.path().to_owned());
        fs::create_dir(directory.path().join("d")).unwrap();
        let mut expected: Vec<String> = (0..1000).map(|number| format!("d/{number}")).collect();
        for key in &expected {
            fs::write(directory.path().join(key), "").unwrap();
        }
        expected.sort_unstable();
        assert_eq!(keys(&tree, "d", None), expected);
        assert_eq!(keys(&tree, "d", None), expected);
        // Forgotten in the middle of a walk.
        let mut walk = Walk::new("d", None);
        let mut found: Vec<String> = (0..300)
            .map(|_| walk.next_in_memory(&tree).unwrap().unwrap())
            .collect();
        let tree = Tree::new(directory.path().to_owned());
        found.extend(std::iter::from_fn(|| walk.next(&tree).unwrap()));
        assert_eq!(found, expected);
    }
}
