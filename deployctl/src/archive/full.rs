//! Why a file system is full: its bytes are used up, or its inodes. The system says the same of
//! both. Asked by whoever writes to one.

use std::{io, os::fd::AsFd};

use rustix::fs::fstatvfs;

/// Returns the error, which something on the file system of `place` met with, in words that tell
/// which of the two it was.
pub(super) fn explain(place: impl AsFd, error: io::Error) -> io::Error {
    let full = error.kind() == io::ErrorKind::StorageFull;
    let counted = |place| fstatvfs(place).is_ok_and(|room| room.f_files > 0 && room.f_favail == 0);
    if full && counted(place) {
        let words = "no inode is left on the file system (`df -i` shows them)";
        return io::Error::new(io::ErrorKind::StorageFull, words);
    }
    error
}
