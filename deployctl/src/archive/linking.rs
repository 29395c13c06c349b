//! Files that an earlier tree has exactly as the layers bring them become further names of its
//! inodes: nothing of them is written. `incoming` asks for it, where the options say so.
//!
//! Nothing about the earlier tree is trusted. A file of it is taken only where kind, size, mode,
//! owner, time and extended attributes are those that a new one would get, and where every byte of
//! the archive was found in the open file. What nobody can rule out is that somebody changes the
//! inode afterwards, as root can, or its owner, having made it writable: that is seen in both
//! trees. So files have no write bits, and all of this is done for those who ask for it only.

use std::{
    collections::HashSet,
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{self, AtFlags, Stat},
    io::Errno,
};

use super::{
    contents::NewFile,
    metadata::Metadata,
    takeover::{self, Earlier, Found, Last},
};

/// Gives inodes of an earlier tree further names.
pub(super) struct Linking {
    /// Where the names come: numbers, as those of the files that are written.
    directories: Vec<OwnedFd>,
    /// The file system of the earlier tree.
    device: u64,
    /// Whether it has not said yet that it cannot.
    possible: AtomicBool,
    /// The inodes that have a further name. Files that the layers have as two stay two, also where
    /// the earlier tree has them as one.
    taken: Mutex<HashSet<u64>>,
    is_used: AtomicBool,
    files: AtomicU64,
    bytes: AtomicU64,
}

/// A file of the earlier tree that is, but for its content, what a new one would be.
pub(super) struct Candidate(Found);

impl Candidate {
    /// Whether it has these bytes at `offset`.
    pub(super) fn has(&self, bytes: &[u8], offset: u64) -> bool {
        takeover::has(&self.0.file, bytes, offset)
    }

    /// Returns the open file.
    pub(super) fn file(&self) -> &File {
        &self.0.file
    }
}

impl Linking {
    /// Returns it for this tree, and for names in these directories.
    pub(super) fn new(earlier: &Earlier, directories: Vec<OwnedFd>) -> Result<Self, Errno> {
        Ok(Self {
            directories,
            device: fs::fstat(earlier.root())?.st_dev,
            possible: AtomicBool::new(true),
            taken: Mutex::default(),
            is_used: AtomicBool::new(false),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Returns what the earlier tree has under the name of a file, if it may be the file.
    ///
    /// An empty one is not: there is nothing to gain, and those are the files that are kept for
    /// somebody to write to.
    pub(super) fn candidate(
        &self,
        earlier: &Earlier,
        name: &[u8],
        (new, metadata): (&NewFile, &Metadata),
        last: &mut Last,
    ) -> Option<Candidate> {
        if new.size == 0 || !self.possible.load(Ordering::Relaxed) {
            return None;
        }
        let found = earlier.find(name, new.size, last)?;
        let at = (&found.stat, found.file.as_fd());
        let is_set = metadata.is_set(at, &new.attributes, &new.extended);
        let is_it = found.stat.st_dev == self.device && is_set.unwrap_or(false);
        is_it.then_some(Candidate(found))
    }

    /// Gives a candidate, whose content has been compared, the name `number` in one of the
    /// directories. Returns whether it has it.
    ///
    /// By its old name, since not every process may link what it has open; then what came of it is
    /// compared with what was open.
    ///
    /// # Errors
    /// Where a wrong name cannot be taken back.
    pub(super) fn link(
        &self,
        candidate: &Candidate,
        directory: usize,
        number: &str,
    ) -> Result<bool, Errno> {
        let Found {
            stat,
            directory: from,
            name,
            ..
        } = &candidate.0;
        let is_new = {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.insert(stat.st_ino)
        };
        if !is_new {
            return Ok(false);
        }
        let to = &self.directories[directory];
        match fs::linkat(&**from, &**name, to, number, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS) => {
                // It will say so of the next file too.
                self.possible.store(false, Ordering::Relaxed);
                return Ok(false);
            }
            Err(_) => return Ok(false),
        }
        let found = fs::statat(to, number, AtFlags::SYMLINK_NOFOLLOW);
        if found.is_ok_and(|found| is_unchanged(stat, &found)) {
            self.is_used.store(true, Ordering::Relaxed);
            return Ok(true);
        }
        fs::unlinkat(to, number, AtFlags::empty())?;
        Ok(false)
    }

    /// Returns the directory in which there may be further names; none as long as there are none
    /// at all.
    pub(super) fn directory(&self, index: usize) -> Option<BorrowedFd<'_>> {
        let is_used = self.is_used.load(Ordering::Relaxed);
        is_used.then(|| self.directories[index].as_fd())
    }

    /// Takes note that a further name came to its place, of a file of so many bytes.
    pub(super) fn placed(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns how many files came to their places, and how many bytes they have.
    pub(super) fn count(&self) -> (u64, u64) {
        let [files, bytes] = [&self.files, &self.bytes].map(|count| count.load(Ordering::Relaxed));
        (files, bytes)
    }
}

/// Whether it is the same inode, and in all that can be seen from outside as it was.
fn is_unchanged(before: &Stat, now: &Stat) -> bool {
    let inode = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_mode);
    let owner = |stat: &Stat| (stat.st_uid, stat.st_gid);
    let content = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    inode(before) == inode(now) && owner(before) == owner(now) && content(before) == content(now)
}
