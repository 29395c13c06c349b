//! Small file systems in memory, for scenarios in which one is full or cannot be written to. For the
//! scenarios beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use deploy_tests::peers;

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

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Changes its options, such as `size=64m`, `ro` or `rw`.
    ///
    /// # Panics
    /// When the system does not do it.
    #[track_caller]
    pub(crate) fn change(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]);
        run(mount.arg(&self.path)).unwrap_or_else(|error| panic!("{error:#}"));
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
