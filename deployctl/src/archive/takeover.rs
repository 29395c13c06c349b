//! Large files whose content an earlier tree has already: they share its blocks where the file
//! system can (FICLONE), and take no further place on the disk. `writers` asks for it.
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
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rustix::{
    fs::{self, FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    Limits,
    beneath::{DIRECTORY, open_directory},
    path::SafePath,
};

/// How much of a clone is read at once.
const PIECE: usize = 64 << 10;
/// Opens what may be cloned: no link, and nothing that has the reader wait.
const READABLE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

type Clone = fn(&File, &OwnedFd) -> Result<(), Errno>;

/// A tree whose files may be taken over.
pub(super) struct Earlier {
    root: OwnedFd,
    clone: Clone,
    /// Whether the file system has not said yet that it cannot.
    possible: AtomicBool,
    bytes: AtomicU64,
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

    /// Makes `file`, which is empty and nobody else's, a clone of what the tree has under the name
    /// of an entry, if that is a file of this size. Returns whether it is one, which says nothing
    /// of its content. Where it is none, `file` is empty still.
    pub(super) fn clone_to(&self, file: &File, name: &[u8], size: u64) -> bool {
        let cloned = self.possible.load(Ordering::Relaxed) && self.try_clone(file, name, size);
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

    fn try_clone(&self, file: &File, name: &[u8], size: u64) -> bool {
        let Some(earlier) = self.find(name, size) else {
            return false;
        };
        match (self.clone)(file, &earlier) {
            Ok(()) => true,
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
                // It will say so of the next file too.
                self.possible.store(false, Ordering::Relaxed);
                false
            }
            Err(_) => false,
        }
    }

    /// Opens a file of this size in the tree.
    fn find(&self, name: &[u8], size: u64) -> Option<OwnedFd> {
        let path = SafePath::parse(name, &Limits::default()).ok()?;
        let (parents, name) = path.split()?;
        let parents = parents.collect::<Vec<_>>().join(&b'/');
        let directory = open_directory(self.root.as_fd(), &parents).ok()?;
        let file = fs::openat(directory, name, READABLE, Mode::empty()).ok()?;
        let stat = fs::fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        (is_file && u64::try_from(stat.st_size) == Ok(size)).then_some(file)
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
            let mut earlier = File::from(earlier.try_clone().expect("a descriptor is left"));
            let mut file = file;
            std::io::copy(&mut earlier, &mut file).expect("files can be copied");
            Ok(())
        };
        Self::cloned_by(path, clone).expect("the tree is there")
    }
}
