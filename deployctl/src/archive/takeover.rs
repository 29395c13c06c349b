//! What an earlier tree has already. A large file shares the blocks of the earlier one where the
//! file system can (FICLONE), and takes no further place on the disk. `large` asks for that;
//! `linking`, for whole files.
//!
//! Nothing about the earlier tree is trusted. Its file is cloned first, into one that nobody else
//! has; then the clone is read and compared with the archive's content, piece by piece, and what
//! differs is written. So a name is no more than a guess, and nobody who can write to the earlier
//! tree, before, meanwhile or later, has a say in what the new one holds.

use std::{
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{self, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::{
    Limits,
    beneath::{DIRECTORY, open_directory},
    path::SafePath,
};

/// How much of a file is read at once.
const PIECE: usize = 64 << 10;
/// Opens what may be taken over: no link, and nothing that has the reader wait.
const READABLE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// How content is taken over that an earlier tree has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// Large files share blocks, where the file system can have two files do that. Whatever is
    /// written to one of them then is not seen in the other.
    Clone,
    /// Files that the earlier tree has exactly so, in content, mode, owner, time and extended
    /// attributes, are further names of its inodes; the others as with `Clone`. No file has write
    /// bits then, taken over or not, since what is written to one tree is seen in the other.
    Link,
}

type Clone = fn(&File, BorrowedFd<'_>) -> Result<(), Errno>;

/// A tree whose files may be taken over.
pub(super) struct Earlier {
    root: OwnedFd,
    clone: Clone,
    /// Whether the file system has not said yet that it cannot.
    possible: AtomicBool,
    bytes: AtomicU64,
}

/// The directory that was looked into last: archives list what is in one directory together.
#[derive(Default)]
pub(super) struct Last(Option<(Vec<u8>, Arc<OwnedFd>)>);

/// A file of the tree.
pub(super) struct Found {
    pub(super) file: File,
    /// As it was when it was opened.
    pub(super) stat: Stat,
    pub(super) directory: Arc<OwnedFd>,
    pub(super) name: Box<[u8]>,
}

impl Earlier {
    /// Opens the tree at `path`; nothing where it is none.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let clone: Clone = |file, earlier| fs::ioctl_ficlone(file, earlier);
        Self::cloned_by(path, clone)
    }

    fn cloned_by(path: &Path, clone: Clone) -> Option<Self> {
        let root = fs::open(path, DIRECTORY, Mode::empty()).ok()?;
        Some(Self {
            root,
            clone,
            possible: AtomicBool::new(true),
            bytes: AtomicU64::new(0),
        })
    }

    /// Returns the tree for whoever may read in it.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens what the tree has under the name of an entry, if that is a file of this size.
    pub(super) fn find(&self, name: &[u8], size: u64, last: &mut Last) -> Option<Found> {
        let path = SafePath::parse(name, &Limits::default()).ok()?;
        let (parents, name) = path.split()?;
        let parents = parents.collect::<Vec<_>>().join(&b'/');
        let directory = match &last.0 {
            Some((path, directory)) if *path == parents => Arc::clone(directory),
            _ => {
                let opened = Arc::new(open_directory(self.root.as_fd(), &parents).ok()?);
                last.0 = Some((parents, Arc::clone(&opened)));
                opened
            }
        };
        let file = fs::openat(&*directory, name, READABLE, Mode::empty()).ok()?;
        let stat = fs::fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let found = || Found {
            file: file.into(),
            stat,
            directory,
            name: name.into(),
        };
        (is_file && u64::try_from(stat.st_size) == Ok(size)).then(found)
    }

    /// Makes `file`, which is empty and nobody else's, a clone of what the tree has under the name
    /// of an entry, if that is a file of this size. Returns whether it is one, which says nothing
    /// of its content. Where it is none, `file` is empty still.
    pub(super) fn clone_to(&self, file: &File, name: &[u8], size: u64) -> bool {
        let found = self
            .can_clone()
            .then(|| self.find(name, size, &mut Last::default()));
        found
            .flatten()
            .is_some_and(|found| self.clone_file(file, &found.file, size))
    }

    /// Makes it a clone of this file, in the same way.
    pub(super) fn clone_file(&self, file: &File, earlier: &File, size: u64) -> bool {
        let cloned = self.can_clone() && self.try_clone(file, earlier);
        let is_whole = || file.metadata().is_ok_and(|metadata| metadata.len() == size);
        if cloned && is_whole() {
            return true;
        }
        if cloned {
            // It grew or shrank just now. Where this fails too, writing will say so.
            let _ = file.set_len(0);
        }
        false
    }

    fn can_clone(&self) -> bool {
        self.possible.load(Ordering::Relaxed)
    }

    fn try_clone(&self, file: &File, earlier: &File) -> bool {
        match (self.clone)(file, earlier.as_fd()) {
            Ok(()) => true,
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
                // It will say so of the next file too.
                self.possible.store(false, Ordering::Relaxed);
                false
            }
            Err(_) => false,
        }
    }

    /// Takes note that so many bytes of a clone proved to be the archive's.
    pub(super) fn took_over(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns how many did.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Whether `file` has these bytes at `offset`. What cannot be read counts as something else.
pub(super) fn has(file: &File, bytes: &[u8], offset: u64) -> bool {
    let mut found = vec![0; PIECE.min(bytes.len())];
    let mut at = offset;
    bytes.chunks(PIECE).all(|piece| {
        let found = &mut found[..piece.len()];
        let same = file.read_exact_at(found, at).is_ok() && found == piece;
        at += piece.len() as u64;
        same
    })
}

#[cfg(test)]
impl Earlier {
    /// Opens the tree for tests, which cannot count on a file system that clones: content is copied.
    pub(super) fn copying(path: &Path) -> Self {
        let clone: Clone = |file, earlier| {
            let earlier = earlier.try_clone_to_owned();
            let mut earlier = File::from(earlier.expect("a descriptor is left"));
            let mut file = file;
            std::io::copy(&mut earlier, &mut file).expect("files can be copied");
            Ok(())
        };
        Self::cloned_by(path, clone).expect("the tree is there")
    }

    /// Opens the tree on a file system that cannot clone.
    pub(super) fn without_clones(path: &Path) -> Self {
        Self::cloned_by(path, |_, _| Err(Errno::OPNOTSUPP)).expect("the tree is there")
    }
}
