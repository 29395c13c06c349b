//! Small file systems, for scenarios in which one is full, cannot be written to, or can do what others cannot. For
//! the scenarios beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use deploy_tests::{peers, wait};

/// A file system that is mounted. Dropping it takes it away; whoever works there has to have ended.
#[derive(Debug)]
pub(crate) struct Mount {
    path: PathBuf,
}

impl Mount {
    /// Mounts a new one at a directory, which is made, with options of tmpfs such as `size=8m,nr_inodes=100`.
    /// Where this process may not mount anything there is none, and `test` is said to be skipped.
    ///
    /// # Panics
    /// When the directory cannot be made.
    pub(crate) fn tmpfs(test: &str, path: impl Into<PathBuf>, options: &str) -> Option<Self> {
        let path = path.into();
        std::fs::create_dir_all(&path).expect("a scenario's directory can be made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        if run(mount.arg(&path)).is_err() {
            peers::skip(test, "the right to mount file systems");
            return None;
        }
        Some(Self { path })
    }

    /// Makes a file system of `bytes` by `mkfs` in a file beside the directory, and mounts it there; the same where
    /// that is not allowed.
    ///
    /// # Panics
    /// When the file or the file system cannot be made.
    pub(crate) fn image(
        test: &str,
        path: impl Into<PathBuf>,
        mkfs: &Path,
        bytes: u64,
    ) -> Option<Self> {
        let path = path.into();
        std::fs::create_dir_all(&path).expect("a scenario's directory can be made");
        let image = path.with_extension("image");
        let file = std::fs::File::create(&image).expect("a scenario's file can be made");
        file.set_len(bytes).expect("a file can have holes");
        run(Command::new(mkfs).arg("-q").arg(&image)).unwrap_or_else(|error| panic!("{error:#}"));
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&image);
        if run(mount.arg(&path)).is_err() {
            peers::skip(test, "the right to mount file systems");
            return None;
        }
        Some(Self { path })
    }

    /// Mounts what is at a directory once more over it, read-only. A file system that somebody writes to cannot be made
    /// read-only but by itself, when it finds itself damaged; whoever comes by a path finds the same here.
    pub(crate) fn read_only(test: &str, path: impl Into<PathBuf>) -> Option<Self> {
        let path = path.into();
        let mut bind = Command::new("mount");
        if run(bind.arg("--bind").args([&path, &path])).is_err() {
            peers::skip(test, "the right to mount file systems");
            return None;
        }
        let mount = Self { path };
        mount.change("bind,ro");
        Some(mount)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Changes its options, such as `size=64m`, `ro` or `rw`. It is made read-only once nobody writes to it: who has
    /// done what a scenario waits for may still be putting things away.
    ///
    /// # Panics
    /// When the system does not do it.
    #[track_caller]
    pub(crate) fn change(&self, options: &str) {
        let change = || {
            let mut mount = Command::new("mount");
            mount.args(["-o", &format!("remount,{options}")]);
            run(mount.arg(&self.path))
        };
        if options.split(',').any(|option| option == "ro") {
            wait::until_true("nobody writes to what is to be read-only", || {
                change().is_ok()
            });
        } else {
            change().unwrap_or_else(|error| panic!("{error:#}"));
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process that is just ending must not keep it for ever.
        run(Command::new("umount").arg("-l").arg(&self.path)).ok();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {complaint}");
    Ok(())
}
