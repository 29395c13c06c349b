//! Removes a tree that was unpacked. For callers that replace old trees by new ones.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, fchmod, openat, statat, unlinkat},
    io::Errno,
};

use super::{ArchiveError, beneath::DIRECTORY};

/// Removes whatever stands at `path`, with all that is in it; nothing there is fine.
///
/// Unlike the standard library it also removes directories that their owner may not write,
/// which layers may contain. Symbolic links are removed, never followed; `path` itself may be
/// one.
///
/// # Errors
/// [`ArchiveError::Io`] for `path`, naming why something in it stays.
pub fn remove_tree(path: &Path) -> Result<(), ArchiveError> {
    remove(path).map_err(|errno| ArchiveError::io("remove", path)(io::Error::from(errno)))
}

fn remove(path: &Path) -> Result<(), Errno> {
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
            unlinkat(CWD, path, AtFlags::empty())
        }
        Ok(_) => {
            use rustix::path::Arg;
            path.into_with_c_str(|path| remove_directory(CWD, path))
        }
    }
}

/// Removes a directory and all that is in it. One descriptor a level: as deep as planned
/// trees may be.
fn remove_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let directory = match openat(parent, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            openat(parent, name, DIRECTORY, Mode::empty())?
        }
        other => other?,
    };
    let mut opened = false;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let mut result = remove_entry(directory.as_fd(), name, entry.file_type());
        if matches!(result, Err(Errno::ACCESS)) && !opened {
            opened = true;
            fchmod(&directory, Mode::RWXU)?;
            result = remove_entry(directory.as_fd(), name, entry.file_type());
        }
        match result {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Removes what stands under `name` in the open directory `parent`, with all that is in it.
pub(super) fn remove_entry(
    parent: BorrowedFd<'_>,
    name: &CStr,
    kind: FileType,
) -> Result<(), Errno> {
    let kind = match kind {
        FileType::Unknown => {
            FileType::from_raw_mode(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
        }
        known => known,
    };
    if kind == FileType::Directory {
        remove_directory(parent, name)
    } else {
        unlinkat(parent, name, AtFlags::empty())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn read_only_directories_go_and_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("tree");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "x").unwrap();
        symlink(outside.path(), root.join("a/out")).unwrap();
        for directory in ["a/b", "a", "."] {
            fs::set_permissions(root.join(directory), fs::Permissions::from_mode(0o500)).unwrap();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        assert!(outside.path().join("kept").exists());
        remove_tree(&root).unwrap();
    }
}
