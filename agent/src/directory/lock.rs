//! Locks that name who holds them: of a whole directory, and of a turn in it. Part of `directory`.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::LOCK;
use crate::error::AgentError;

/// More than any process id has.
const PID_DIGITS: u64 = 20;
/// How often the lock is tried: whoever asks who is there has it for a moment.
const LOCK_TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// A lock of a directory, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

/// Whose turn it is, where it is somebody else's: its process, where the file says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken(pub(crate) Option<u32>);

impl Drop for Lock {
    /// Gives the lock back at once. Closing the file would not do: a process that was forked
    /// and has not become its program yet has it open too, and would go on holding the lock.
    fn drop(&mut self) {
        // Where this fails, the end of the process gives it back.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Lock {
    /// Takes the lock of an agent's directory and writes who holds it. The system gives it back
    /// when the process ends, however it ends.
    pub(super) fn take(root: &Path) -> Result<Self, AgentError> {
        let path = root.join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(AgentError::io("open", &path))?;
        let mut tries = 1;
        while let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(AgentError::io("lock", path)(errno.into()));
            }
            if tries == LOCK_TRIES {
                return Err(AgentError::Locked {
                    directory: root.to_owned(),
                    holder: holder(&mut file),
                });
            }
            tries += 1;
            std::thread::sleep(BETWEEN_TRIES);
        }
        sign(&mut file).map_err(AgentError::io("write", path))?;
        Ok(Self(file))
    }

    /// Takes a turn by its file, and writes whose it is.
    pub(super) fn take_turn(path: PathBuf) -> Result<Result<Self, Taken>, AgentError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let opened = options.open(&path).or_else(|error| match error.kind() {
            // Whoever may only look takes turns as well.
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                File::open(&path)
            }
            _ => Err(error),
        });
        let mut file = opened.map_err(AgentError::io("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // Who it is helps those who wait, and nothing depends on it.
                let _ = sign(&mut file);
                Ok(Ok(Self(file)))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Err(Taken(holder(&mut file)))),
            Err(errno) => Err(AgentError::io("lock", path)(errno.into())),
        }
    }

    /// Returns whether somebody has the lock in this file, and who, where the file says so.
    pub(super) fn look(path: &Path) -> Result<Option<Option<u32>>, AgentError> {
        let mut file = File::open(path).map_err(AgentError::io("open", path))?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                drop(Self(file));
                Ok(None)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(holder(&mut file))),
            Err(errno) => Err(AgentError::io("lock", path)(errno.into())),
        }
    }
}

/// Writes who holds a lock into its file.
fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Returns who holds the lock, where the file says so: a holder that has not written yet stays
/// unnamed.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_DIGITS).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
