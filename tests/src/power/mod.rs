//! A disk whose power can be cut: ext4 on a loop device whose blocks stand in a file of a FUSE file system. What was
//! written since the disk was last told to flush may be there afterwards or not, piece by piece, as on a disk with a
//! cache of its own. Called by the scenarios.

mod blocks;
mod filesystem;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use fuser::BackgroundSession;
use tempfile::TempDir;

use crate::command::Run;
use crate::wait;
use blocks::Blocks;

/// A mounted disk. Dropping it unmounts it.
pub struct Disk {
    place: PathBuf,
    blocks: Arc<Mutex<Blocks>>,
    // Its thread answers for the file until the directory goes.
    _session: BackgroundSession,
    scratch: TempDir,
    /// How often the power came back: each time, the blocks are a file that nobody has seen before.
    starts: u64,
}

impl Disk {
    /// Makes a disk of so many bytes and mounts it at `place`, which is made where it is not there. Nothing comes back
    /// where this machine does not let us mount, or has no `mkfs.ext4`.
    ///
    /// # Panics
    /// When the disk cannot be made for another reason.
    pub fn mount(place: impl Into<PathBuf>, bytes: u64) -> Option<Self> {
        let place = place.into();
        std::fs::create_dir_all(&place).expect("a directory to mount at can be made");
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let blocks = Blocks::new(scratch.path(), bytes).expect("a file for blocks can be made");
        let blocks = Arc::new(Mutex::new(blocks));
        let files = scratch.path().join("files");
        std::fs::create_dir(&files).expect("a new directory can hold another");
        let session = filesystem::serve(blocks.clone(), &files).ok()?;
        let disk = Self {
            place,
            blocks,
            _session: session,
            scratch,
            starts: 0,
        };
        let made = Run::new("mkfs.ext4")
            .args(["-q", "-F", "-E", "nodiscard"])
            .arg(disk.file())
            .answer()
            .ok()?;
        assert!(made.succeeded(), "{made}");
        disk.start().then_some(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.place
    }

    /// Takes the power away: from now on, nothing that is written or flushed succeeds. Whoever still runs has to be
    /// ended before [`restore`](Self::restore).
    pub fn cut(&self) {
        self.blocks().cut();
    }

    /// Gives the power back, after a [`cut`](Self::cut): mounts what is left at the same place.
    ///
    /// # Panics
    /// When somebody still holds files of the disk open, or when what is left cannot be mounted.
    pub fn restore(&mut self) {
        self.stop();
        self.blocks().restore();
        self.starts += 1;
        assert!(self.start(), "a file system survives any cut");
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().expect("nobody panics while it is held")
    }

    fn file(&self) -> PathBuf {
        self.scratch.path().join(format!("files/{}", self.starts))
    }

    fn start(&self) -> bool {
        let mounted = Run::new("mount")
            .args(["-o", "loop"])
            .arg(self.file())
            .arg(&self.place)
            .answer();
        mounted.is_ok_and(|answer| answer.succeeded())
    }

    fn stop(&self) {
        wait::until_true("nobody uses the disk any more", || {
            let unmounted = Run::new("umount").arg(&self.place).answer();
            unmounted.is_ok_and(|answer| answer.succeeded())
        });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let umount = Run::new("umount").arg("--lazy").arg(&self.place);
        umount.answer().ok();
    }
}
