//! Files that are read again when they change. Looked at by `serve`.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

/// How often they are looked at: whoever changes one can wait so long.
pub(crate) const LOOKS: Duration = Duration::from_secs(2);

/// What tells two states of a file apart without reading it; nothing where it is not there.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Some files, and what they were like when they were last looked at.
#[derive(Debug)]
pub(crate) struct Watched {
    files: Vec<(PathBuf, Stamp)>,
}

impl Watched {
    /// Looks at the files for the first time.
    pub(crate) fn new(files: Vec<PathBuf>) -> Self {
        let stamped = |path: PathBuf| {
            let stamp = stamp(&path);
            (path, stamp)
        };
        Self {
            files: files.into_iter().map(stamped).collect(),
        }
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns whether any of them is another one, or there or gone, since this was asked last.
    pub(crate) fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, known) in &mut self.files {
            let found = stamp(path);
            changed |= found != *known;
            *known = found;
        }
        changed
    }
}

fn stamp(path: &PathBuf) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.len(),
        found.mtime(),
        found.mtime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_come_change_and_go_are_noticed_once() {
        let place = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| place.path().join(name));
        fs::write(&paths[0], "1").unwrap();
        let mut watched = Watched::new(paths.to_vec());
        assert!(!watched.changed());
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(&paths[1], "x").unwrap(),
            &|| fs::write(&paths[0], "12").unwrap(),
            &|| {
                // Another file of the same size and time.
                let time = fs::metadata(&paths[0]).unwrap().modified().unwrap();
                let new = place.path().join("new");
                fs::write(&new, "21").unwrap();
                let file = fs::File::options().write(true).open(&new).unwrap();
                file.set_modified(time).unwrap();
                fs::rename(&new, &paths[0]).unwrap();
            },
            &|| fs::remove_file(&paths[1]).unwrap(),
        ];
        for change in changes {
            change();
            assert!(watched.changed());
            assert!(!watched.changed());
        }
    }
}
