//! What a plan will make, name by name. For whoever shows a plan, or checks one.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use super::Plan;

/// Something that a plan will make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Where, relative to the root: names only, no `.` and no `..`.
    pub path: PathBuf,
    /// What.
    pub kind: PlannedKind,
}

/// What a plan makes under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlannedKind {
    /// A directory, whose own directory is planned before it.
    Directory,
    /// A file.
    File {
        /// Bytes of its content.
        size: u64,
    },
    /// A further name of a file.
    HardLink {
        /// The name under which the file itself is planned.
        file: PathBuf,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads, wherever that is: nothing here follows it.
        target: PathBuf,
    },
}

impl Plan {
    /// Returns everything that the plan makes below the root, in the order in which it is made:
    /// directories, files, hard links, symbolic links. No path comes twice, and each directory on
    /// the way to one is in it.
    pub fn entries(&self) -> impl Iterator<Item = Planned> {
        let survivors = &self.survivors;
        let planned = |place, kind| Planned {
            path: path(survivors.path(place)),
            kind,
        };
        let directories = survivors.directories.iter().skip(1);
        let directories =
            directories.map(move |directory| planned(&directory.place, PlannedKind::Directory));
        let files = survivors.files.iter().map(move |file| {
            let kind = PlannedKind::File { size: file.size };
            planned(&file.place, kind)
        });
        let links = survivors.links.iter().map(move |link| {
            let file = &survivors.files[link.file as usize];
            let file = path(survivors.path(&file.place));
            planned(&link.place, PlannedKind::HardLink { file })
        });
        let symlinks = survivors.symlinks.iter().map(move |link| {
            let target = path(link.target.to_vec());
            planned(&link.place, PlannedKind::Symlink { target })
        });
        directories.chain(files).chain(links).chain(symlinks)
    }
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}
