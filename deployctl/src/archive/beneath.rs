//! Opens directories beneath another one's descriptor, following no link of any kind. The
//! second wall of unpacking: the plan has no symbolic link on any way, and if somebody puts
//! one there meanwhile, it is not followed. Only `materialise` and `remove` call it.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

/// What every directory is opened with.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Whether this kernel, and the sandbox around this process, has `openat2` (Linux 5.6).
static HAS_OPENAT2: AtomicBool = AtomicBool::new(true);

/// Opens the directory at `path`, which has single slashes and no `.` or `..`; the root
/// itself where it is empty.
pub(super) fn open_directory(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        return openat(root, c".", DIRECTORY, Mode::empty());
    }
    if HAS_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH
            .union(ResolveFlags::NO_SYMLINKS)
            .union(ResolveFlags::NO_MAGICLINKS)
            .union(ResolveFlags::NO_XDEV);
        match openat2(root, path, DIRECTORY, Mode::empty(), resolve) {
            // Seccomp filters of older container engines answer EPERM.
            Err(Errno::NOSYS | Errno::PERM) => HAS_OPENAT2.store(false, Ordering::Relaxed),
            // A rename beside us made the kernel unsure; the slow way is sure. And it takes paths
            // that are too long for one call.
            Err(Errno::AGAIN | Errno::NAMETOOLONG) => {}
            other => return other,
        }
    }
    open_stepwise(root, path)
}

/// Opens one component after the other, none of which may be a link.
fn open_stepwise(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut at: Option<OwnedFd> = None;
    for component in path.split(|byte| *byte == b'/') {
        let parent = at.as_ref().map_or(root, |at| at.as_fd());
        at = Some(openat(parent, component, DIRECTORY, Mode::empty())?);
    }
    at.ok_or(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_are_followed_neither_way() {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("secret")).unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        symlink(outside.path(), root.path().join("a/out")).unwrap();
        symlink("b", root.path().join("a/in")).unwrap();
        let root = fs::File::open(root.path()).unwrap();
        for open in [open_directory, open_stepwise] {
            assert!(open(root.as_fd(), b"a/b").is_ok());
            for path in [&b"a/out"[..], b"a/out/secret", b"a/in", b"a/missing"] {
                assert!(open(root.as_fd(), path).is_err(), "{path:?}");
            }
        }
        assert!(open_directory(root.as_fd(), b"").is_ok());
    }
}
