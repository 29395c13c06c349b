//! Listing the files of a directory tree in the order of their keys. Used by
//! [`super::LocalDirectory`] alone, from blocking threads.

use std::{
    fs, io,
    path::{Path as FilePath, PathBuf},
};

/// A walk over all files below a directory, in bytewise order of their keys.
///
/// A directory's entries are read when the walk reaches it, sorted, and held until it leaves
/// it; what appears or goes meanwhile may or may not be seen. Names that begin with a dot in
/// the top directory are not objects.
pub(super) struct Walk {
    root: PathBuf,
    levels: Vec<std::vec::IntoIter<String>>,
    after: Option<String>,
}

impl Walk {
    /// Below the key `prefix` (empty: everything), from behind the key `after`.
    pub(super) fn new(root: PathBuf, prefix: &str, after: Option<String>) -> io::Result<Self> {
        let mut walk = Self {
            root,
            levels: Vec::new(),
            after,
        };
        let below = match prefix {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        walk.descend(&below)?;
        Ok(walk)
    }

    /// Enters the directory with this key, which ends in a slash.
    fn descend(&mut self, directory: &str) -> io::Result<()> {
        let entries = match fs::read_dir(self.root.join(directory)) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if directory.is_empty() && name.starts_with('.') {
                continue;
            }
            // The slash takes part in the order: `a-b` stands before everything in `a/`.
            let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
            let key = format!("{directory}{name}{slash}");
            if self.may_hold_more(&key) {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        self.levels.push(keys.into_iter());
        Ok(())
    }

    /// True where the key, or some key in the directory, stands behind the offset.
    fn may_hold_more(&self, key: &str) -> bool {
        match &self.after {
            None => true,
            Some(after) => key > after.as_str() || (key.ends_with('/') && after.starts_with(key)),
        }
    }
}

impl Iterator for Walk {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(level) = self.levels.last_mut() {
            match level.next() {
                None => {
                    self.levels.pop();
                }
                Some(key) if key.ends_with('/') => {
                    if let Err(error) = self.descend(&key) {
                        return Some(Err(error));
                    }
                }
                Some(key) => return Some(Ok(key)),
            }
        }
        None
    }
}

/// True where the error says that there is no such file, or no directory on the way to it.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Returns the file of a key.
pub(super) fn file_of(root: &FilePath, key: &str) -> PathBuf {
    root.join(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_sorted_bytewise_from_behind_the_offset() {
        let directory = tempfile::tempdir().unwrap();
        let mut keys = [
            "a/b/c",
            "a/b-c",
            "a/b.c",
            "a/b0",
            "a/b/a",
            "z",
            "a-z",
            ".hidden/x",
        ];
        for key in keys {
            let file = directory.path().join(key);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        keys.sort_unstable();
        let visible = &keys[1..];
        let walk = |prefix: &str, after: Option<&str>| -> Vec<String> {
            Walk::new(
                directory.path().to_owned(),
                prefix,
                after.map(str::to_owned),
            )
            .unwrap()
            .map(Result::unwrap)
            .collect()
        };
        assert_eq!(walk("", None), visible);
        for (index, key) in visible.iter().enumerate() {
            assert_eq!(walk("", Some(key)), visible[index + 1..], "after {key}");
        }
        assert_eq!(walk("a/b", None), ["a/b/a", "a/b/c"]);
        assert_eq!(walk("a", Some("a/b/b")), ["a/b/c", "a/b0"]);
        assert_eq!(walk("absent", None), [""; 0]);
        assert_eq!(walk("z", None), [""; 0]);
    }
}
