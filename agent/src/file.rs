//! Files that are either the old or the new one, whatever happens meanwhile. For everything
//! that the agent writes beside the trees.

use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use crate::error::AgentError;

/// The mode of what others may read.
pub(crate) const PUBLIC: u32 = 0o644;
/// The mode of what may hold secrets: what a script said, what a release sets in its environment.
pub(crate) const PRIVATE: u32 = 0o600;
/// Of a directory that the agent makes within its own.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// Replaces the file at `path` by one of this mode: written beside it, synced, renamed, the
/// directory synced.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), AgentError> {
    let directory = parent(path);
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(AgentError::io("write", path))?;
    sync_directory(directory)
}

/// Makes `path` a symbolic link to `target`, in the place of the one that was there.
pub(crate) fn replace_link(path: &Path, target: &Path) -> Result<(), AgentError> {
    let directory = parent(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!("{TEMPORARY}{name}"));
    let write = || -> std::io::Result<()> {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(target, &temporary)?;
        fs::rename(&temporary, path)
    };
    write().map_err(AgentError::io("switch", path))?;
    sync_directory(directory)
}

/// Puts on stable storage which names a directory has.
pub(crate) fn sync_directory(path: &Path) -> Result<(), AgentError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(AgentError::io("sync", path))
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_links_are_replaced_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        for (content, mode) in [("one", PUBLIC), ("two", PRIVATE)] {
            replace(&file, content.as_bytes(), mode).unwrap();
            replace_link(&link, Path::new(content)).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), content);
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(content));
            let permissions = fs::metadata(&file).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, mode);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
