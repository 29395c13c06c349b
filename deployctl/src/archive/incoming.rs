//! Where the content of files is until the tree has a place for it: numbered files in a
//! directory of their own, written by several threads while the layers are still being read.
//! `plan` hands the content in, `materialise` takes it out.
//!
//! No name of an archive is used here: whatever an archive says, nothing is written but files
//! whose names are two numbers.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::{
    ArchiveError, beneath::DIRECTORY, contents::NewFile, full::explain, metadata::Metadata,
    remove_tree, takeover::Earlier,
};

/// Files in one directory are made by turns, files in several at once.
const DIRECTORIES: u32 = 8;
/// How many neighbours of an archive stand in one directory: file systems put these side by
/// side.
const NEIGHBOURS: u32 = 64;
/// Nobody else looks into a half-made tree.
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The content of a file: which entry of which layer brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ContentId {
    pub(super) layer: u16,
    pub(super) ordinal: u32,
}

/// The directory of the numbered files.
pub(super) struct Incoming {
    path: PathBuf,
    directories: Vec<OwnedFd>,
    metadata: Metadata,
    /// The tree that large files may be taken over from.
    earlier: Option<Earlier>,
}

impl Incoming {
    /// Makes the directory in `root`, which is at `path`, under a name that no archive can know.
    pub(super) fn create(
        root: BorrowedFd<'_>,
        path: &Path,
        metadata: Metadata,
    ) -> Result<Self, ArchiveError> {
        let name = format!(".incoming-{:032x}", rand::random::<u128>());
        let path = path.join(&name);
        let make = || {
            fs::mkdirat(root, &name, Mode::RWXU)?;
            let all = fs::openat(root, &name, DIRECTORY, Mode::empty())?;
            let open = |number: u32| {
                let name = number.to_string();
                fs::mkdirat(&all, &name, Mode::RWXU)?;
                fs::openat(&all, &name, DIRECTORY, Mode::empty())
            };
            let directories = (0..DIRECTORIES).map(open).collect::<Result<_, Errno>>()?;
            Ok((directories, metadata.within(&all)?))
        };
        match make() {
            Ok((directories, metadata)) => Ok(Self {
                path,
                directories,
                metadata,
                earlier: None,
            }),
            Err(errno) => {
                let error = explain(root, Errno::into(errno));
                Err(ArchiveError::io("create", &path)(error))
            }
        }
    }

    /// Returns it with a tree that large files may be taken over from.
    pub(super) fn taking_over(self, earlier: Option<Earlier>) -> Self {
        Self { earlier, ..self }
    }

    /// Returns the tree that large files may be taken over from.
    pub(super) fn earlier(&self) -> Option<&Earlier> {
        self.earlier.as_ref()
    }

    /// Makes the file for some content.
    pub(super) fn open(&self, content: ContentId) -> Result<File, ArchiveError> {
        let (directory, name) = self.number(content);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(directory, &name, flags, PRIVATE_FILE)
            .map(File::from)
            .map_err(|errno| self.failed("create", content, errno.into()))
    }

    /// Gives the file what it has beside its content, once this is complete.
    pub(super) fn describe(&self, file: &File, new: &NewFile) -> Result<(), ArchiveError> {
        let set = self.metadata.set(file, &new.attributes, &new.extended);
        set.map_err(|unset| {
            unset.into_error(|errno| self.failed("set the metadata of", new.content, errno.into()))
        })
    }

    /// Returns the error of an action on the file of some content.
    pub(super) fn failed(
        &self,
        action: &'static str,
        content: ContentId,
        error: io::Error,
    ) -> ArchiveError {
        let (directory, name) = self.number(content);
        ArchiveError::io(action, self.path.join(name))(explain(directory, error))
    }

    /// Moves content to its place, where nothing may stand.
    pub(super) fn place(
        &self,
        content: ContentId,
        directory: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), Errno> {
        let (from, number) = self.number(content);
        match fs::renameat_with(from, &number, directory, name, RenameFlags::NOREPLACE) {
            // File systems that can only rename by replacing can link.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::linkat(from, &number, directory, name, AtFlags::empty())?;
                fs::unlinkat(from, &number, AtFlags::empty())
            }
            result => result,
        }
    }

    /// Moves content to its place, in the stead of the file or link that stands there.
    pub(super) fn replace(
        &self,
        content: ContentId,
        directory: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), Errno> {
        let (from, number) = self.number(content);
        fs::renameat(from, &number, directory, name)
    }

    /// Removes the directory, with the content for which there was no place.
    pub(super) fn remove(self) -> Result<(), ArchiveError> {
        remove_tree(&self.path)
    }

    fn number(&self, content: ContentId) -> (BorrowedFd<'_>, String) {
        let directory = content.ordinal / NEIGHBOURS % DIRECTORIES;
        let name = format!("{}.{}", content.layer, content.ordinal);
        (self.directories[directory as usize].as_fd(), name)
    }
}
