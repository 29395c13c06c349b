//! A place to unpack into with things around it that must stay as they are, and be left alone. Called by the
//! scenarios.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tempfile::TempDir;

use crate::tree::Tree;

/// What the archives are unpacked into.
const STAGING: &CStr = c"staging";

/// What may not happen. Not closing: what another test's child got from us when it was forked is closed when it
/// likes.
const WATCHED: WatchFlags = WatchFlags::OPEN
    .union(WatchFlags::ACCESS)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE);

/// A directory `staging` between others: `outside`, one whose name begins the same, links into and out of it.
#[derive(Debug)]
pub struct Surroundings {
    place: TempDir,
}

/// Notes down whatever is done to what stands around.
#[derive(Debug)]
pub struct Watch {
    before: Vec<String>,
    place: PathBuf,
    events: OwnedFd,
    watched: Vec<(i32, PathBuf)>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self::new()
    }
}

impl Surroundings {
    /// Makes them in a temporary directory, which goes when this is dropped.
    ///
    /// # Panics
    /// When that is impossible.
    pub fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// Makes them in a temporary directory in `parent`, for where the file system matters.
    ///
    /// # Panics
    /// When that is impossible.
    pub fn within(parent: &Path) -> Self {
        let place = TempDir::new_in(parent).expect("a temporary directory can be made");
        let at = |name: &str| place.path().join(name);
        for directory in ["staging", "staging-beside", "outside", "outside/directory"] {
            std::fs::create_dir(at(directory)).expect("the directory is ours");
        }
        for file in [
            "secret",
            "staging-beside/secret",
            "outside/secret",
            "outside/directory/secret",
        ] {
            std::fs::write(at(file), "untouched").expect("the directory is ours");
        }
        for (name, target) in [
            ("link-to-staging", "staging"),
            ("link-to-outside", "outside"),
        ] {
            symlink(target, at(name)).expect("the directory is ours");
        }
        Self { place }
    }

    /// The empty directory to unpack into.
    pub fn staging(&self) -> PathBuf {
        self.place.path().join("staging")
    }

    /// The absolute path of a directory that nothing is to touch.
    pub fn outside(&self) -> PathBuf {
        self.place.path().join("outside")
    }

    /// Whether files here can have extended attributes of the user's.
    pub fn has_attributes(&self) -> bool {
        let file = self.place.path().join("probe");
        std::fs::write(&file, "").expect("the directory is ours");
        let flags = rustix::fs::XattrFlags::empty();
        let set = rustix::fs::setxattr(&file, "user.probe", b"1", flags);
        std::fs::remove_file(&file).expect("the directory is ours");
        set.is_ok()
    }

    /// Begins to watch everything but what is in the directory to unpack into.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn watch(&self) -> Watch {
        let before = around(self.place.path());
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .expect("the kernel tells of files");
        let watch = |path: PathBuf| {
            let flags = WATCHED | WatchFlags::DONT_FOLLOW;
            let number = inotify::add_watch(&events, &path, flags).expect("it can be watched");
            (number, path)
        };
        let paths = [
            "",
            "secret",
            "link-to-staging",
            "link-to-outside",
            "staging-beside",
            "staging-beside/secret",
            "outside",
            "outside/secret",
            "outside/directory",
            "outside/directory/secret",
        ];
        let paths = paths.map(|path| self.place.path().join(path));
        let watched = paths.map(watch).to_vec();
        Watch {
            before,
            place: self.place.path().to_owned(),
            events,
            watched,
        }
    }
}

/// A line for each thing that stands around: not for what is in the staging directory, whose own time and mode
/// are the archive's to set.
fn around(place: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(place).expect("the directory is ours") {
        let entry = entry.expect("the directory is ours");
        let name = entry.file_name().display().to_string();
        if name == "staging" {
            continue;
        }
        let metadata = entry.metadata().expect("it was just listed");
        let times = (metadata.mtime(), metadata.mtime_nsec());
        lines.push(format!(
            "{name} {:o} {} {times:?}",
            metadata.mode(),
            metadata.nlink()
        ));
        if metadata.is_dir() {
            let tree = Tree::of(entry.path());
            lines.extend(
                tree.entries
                    .iter()
                    .map(|(path, entry)| format!("{name}/{path} {entry}")),
            );
        }
    }
    lines.sort();
    lines
}

impl Watch {
    /// Returns a line for each thing that was done to what stands around: read, changed, made, removed.
    ///
    /// # Panics
    /// When the kernel's notes cannot be read.
    pub fn seen(self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        let mut lines = Vec::new();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => panic!("read what happened: {error}"),
            };
            let flags = event.events();
            let harmless =
                ReadFlags::OPEN | ReadFlags::ACCESS | ReadFlags::ATTRIB | ReadFlags::ISDIR;
            if event.file_name() == Some(STAGING) && harmless.contains(flags) {
                continue;
            }
            let path = self
                .watched
                .iter()
                .find(|(number, _)| *number == event.wd());
            let path = path.map(|(_, path)| path.display().to_string());
            lines.push(format!(
                "{}/{}: {flags:?}",
                path.unwrap_or_default(),
                event.file_name().unwrap_or_default().to_string_lossy()
            ));
        }
        let after = around(&self.place);
        let gone = self.before.iter().filter(|line| !after.contains(line));
        let new = after.iter().filter(|line| !self.before.contains(line));
        lines.extend(gone.map(|line| format!("- {line}")));
        lines.extend(new.map(|line| format!("+ {line}")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_seen_but_what_is_done_outside() {
        let place = Surroundings::new();
        let watch = place.watch();
        std::fs::write(place.staging().join("file"), "x").unwrap();
        std::fs::read_dir(place.staging()).unwrap();
        assert_eq!(watch.seen(), Vec::<String>::new());
        type Deed = fn(&Path) -> std::io::Result<()>;
        let deeds: [Deed; 6] = [
            |outside| std::fs::read(outside.join("secret")).map(drop),
            |outside| std::fs::read_dir(outside).map(drop),
            |outside| std::fs::write(outside.join("new"), "x"),
            |outside| std::fs::write(outside.join("../new"), "x"),
            |outside| std::fs::remove_file(outside.join("directory/secret")),
            |outside| std::fs::hard_link(outside.join("secret"), outside.join("../staging/linked")),
        ];
        for deed in deeds {
            let place = Surroundings::new();
            let watch = place.watch();
            deed(&place.outside()).unwrap();
            assert_ne!(watch.seen(), Vec::<String>::new());
        }
    }
}
