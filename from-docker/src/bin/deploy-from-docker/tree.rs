//! Programs in a tree that stands on this machine. For `unit`.

use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

/// Whether anybody may execute a file at an absolute path of the tree at `root`. Links are followed
/// as a process would whose root that is, so that none leads out of it.
pub(super) fn has_program(root: &Path, program: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let Ok(root) = open(root, flags | OFlags::DIRECTORY, Mode::empty()) else {
        return false;
    };
    let found = openat2(root, program, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let status = found.and_then(|file| fstat(&file));
    status.is_ok_and(|status| {
        FileType::from_raw_mode(status.st_mode).is_file() && status.st_mode & 0o111 != 0
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn links_lead_to_programs_of_the_tree_and_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("usr/bin")).unwrap();
        for (name, mode) in [("usr/bin/app", 0o755), ("usr/bin/data", 0o644)] {
            fs::write(path(name), "").unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("usr/bin", path("bin")).unwrap();
        symlink("/usr/bin/app", path("run")).unwrap();
        symlink("/bin/sh", path("shell")).unwrap();
        symlink("../../../../../bin/sh", path("out")).unwrap();
        for (name, expected) in [
            ("/usr/bin/app", true),
            ("/bin/app", true),
            ("/run", true),
            ("/usr/bin/data", false),
            ("/usr/bin", false),
            ("/shell", false),
            ("/out", false),
            ("/missing", false),
        ] {
            assert_eq!(
                has_program(root.path(), Path::new(name)),
                expected,
                "{name}"
            );
        }
        assert!(!has_program(&path("missing"), Path::new("/bin/app")));
    }
}
