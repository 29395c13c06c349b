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
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::{
    ArchiveError, TakeOver, UnpackOptions,
    beneath::DIRECTORY,
    contents::NewFile,
    full::explain,
    linking::{Candidate, Linking},
    metadata::Metadata,
    remove_tree,
    survivors::PlannedFile,
    takeover::{Earlier, Last},
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
    all: OwnedFd,
    /// Of files that are written.
    directories: Vec<OwnedFd>,
    metadata: Metadata,
    /// The tree that content may be taken over from.
    earlier: Option<Earlier>,
    /// Where whole files of it may be.
    linking: Option<Linking>,
    stop: Arc<AtomicBool>,
}

/// What an earlier tree had already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// Files that are further names of its inodes.
    pub(super) files: u64,
    /// Bytes of these, and of clones.
    pub(super) bytes: u64,
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
            let directories = numbered(&all, "")?;
            let metadata = metadata.within(&all)?;
            Ok((all, directories, metadata))
        };
        match make() {
            Ok((all, directories, metadata)) => Ok(Self {
                path,
                all,
                directories,
                metadata,
                earlier: None,
                linking: None,
                stop: Arc::default(),
            }),
            Err(errno) => {
                let error = explain(root, Errno::into(errno));
                Err(ArchiveError::io("create", &path)(error))
            }
        }
    }

    /// Returns it with a tree that content may be taken over from, in the way that is wanted.
    pub(super) fn taking_over(
        self,
        earlier: Earlier,
        options: &UnpackOptions,
    ) -> Result<Self, ArchiveError> {
        let linking = match options.take_over {
            TakeOver::Clone => None,
            TakeOver::Link => {
                let linking = numbered(&self.all, "linked-")
                    .and_then(|directories| Linking::new(&earlier, directories));
                let failed = |errno| ArchiveError::io("create", &self.path)(Errno::into(errno));
                Some(linking.map_err(failed)?)
            }
        };
        Ok(Self {
            earlier: Some(earlier),
            linking,
            stop: Arc::clone(&options.stop),
            ..self
        })
    }

    /// Returns the tree that content may be taken over from.
    pub(super) fn earlier(&self) -> Option<&Earlier> {
        self.earlier.as_ref()
    }

    /// Returns the directories in which files are written.
    pub(super) fn writable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.directories.iter().map(AsFd::as_fd)
    }

    /// Whether whole files of an earlier tree may be taken over.
    pub(super) fn links(&self) -> bool {
        self.linking.is_some()
    }

    /// Returns what an earlier tree has under the name of a file, if that may be the file.
    pub(super) fn candidate(
        &self,
        name: &[u8],
        new: &NewFile,
        last: &mut Last,
    ) -> Option<Candidate> {
        let (linking, earlier) = (self.linking.as_ref()?, self.earlier.as_ref()?);
        linking.candidate(earlier, name, (new, &self.metadata), last)
    }

    /// Has a candidate, whose content was compared, be the file. Returns whether it is.
    pub(super) fn link(&self, new: &NewFile, candidate: &Candidate) -> Result<bool, ArchiveError> {
        let Some(linking) = &self.linking else {
            return Ok(false);
        };
        let (directory, number) = numbers(new.content);
        let linked = linking.link(candidate, directory, &number);
        linked.map_err(|errno| self.failed("remove", new.content, errno.into()))
    }

    /// Returns what came to its place from an earlier tree.
    pub(super) fn taken(&self) -> Taken {
        let linked = self.linking.as_ref().map(Linking::count);
        let (files, bytes) = linked.unwrap_or_default();
        let cloned = self.earlier.as_ref().map_or(0, Earlier::bytes);
        Taken {
            files,
            bytes: bytes + cloned,
        }
    }

    /// Whether nobody has asked to stop.
    pub(super) fn go_on(&self) -> Result<(), ArchiveError> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(ArchiveError::Interrupted),
            false => Ok(()),
        }
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
        let set = self.metadata.set_file(file, &new.attributes, &new.extended);
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

    /// Moves a file to its place, where nothing may stand.
    pub(super) fn place(&self, file: &PlannedFile, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        let (index, number) = numbers(file.content);
        let name = &*file.place.name;
        if let Some(linking) = &self.linking
            && let Some(from) = linking.directory(index)
        {
            match move_to(from, &number, directory, name) {
                Ok(()) => {
                    linking.placed(file.size);
                    return Ok(());
                }
                // It was written.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        move_to(self.directories[index].as_fd(), &number, directory, name)
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
        let (directory, name) = numbers(content);
        (self.directories[directory].as_fd(), name)
    }
}

/// Returns where some content is: in which of the directories, and under what name.
fn numbers(content: ContentId) -> (usize, String) {
    let directory = content.ordinal / NEIGHBOURS % DIRECTORIES;
    let name = format!("{}.{}", content.layer, content.ordinal);
    (directory as usize, name)
}

/// Makes the directories in `all`.
fn numbered(all: &OwnedFd, prefix: &str) -> Result<Vec<OwnedFd>, Errno> {
    let open = |number: u32| {
        let name = format!("{prefix}{number}");
        fs::mkdirat(all, &name, Mode::RWXU)?;
        fs::openat(all, &name, DIRECTORY, Mode::empty())
    };
    (0..DIRECTORIES).map(open).collect()
}

fn move_to(
    from: BorrowedFd<'_>,
    number: &str,
    directory: BorrowedFd<'_>,
    name: &[u8],
) -> Result<(), Errno> {
    match fs::renameat_with(from, number, directory, name, RenameFlags::NOREPLACE) {
        // File systems that can only rename by replacing can link.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::linkat(from, number, directory, name, AtFlags::empty())?;
            fs::unlinkat(from, number, AtFlags::empty())
        }
        result => result,
    }
}
