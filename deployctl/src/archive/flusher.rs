//! Lets the disk work while layers are still being read, so that little is left for the end.
//! `unpack` runs it beside the writers.

use std::{
    os::fd::BorrowedFd,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use rustix::io::Errno;

/// So much is written before the disk is told to take it: less, and journals are written more
/// often than they need to be.
const FLUSH: u64 = 32 << 20;

/// Counts what is written, and has it brought to the disk.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    unflushed: u64,
    is_over: bool,
}

impl Flusher {
    /// Takes note of bytes that were written.
    pub(super) fn wrote(&self, bytes: u64) {
        let mut state = self.state();
        state.unflushed += bytes;
        if state.unflushed >= FLUSH {
            self.changed.notify_one();
        }
    }

    /// Returns what ends [`Flusher::work`] when it is dropped, also by a panic.
    pub(super) fn until_dropped(&self) -> Running<'_> {
        Running(self)
    }

    /// Brings to the disk what was written to the file system of `root`, again and again, until
    /// it is ended.
    ///
    /// # Errors
    /// The first sync that fails is the last one. The system tells each descriptor once that
    /// bytes were lost, so that whoever syncs the same one later would not hear of it.
    pub(super) fn work(&self, root: BorrowedFd<'_>) -> Result<(), Errno> {
        loop {
            let wait = |state: &mut State| !state.is_over && state.unflushed < FLUSH;
            let state = self.changed.wait_while(self.state(), wait);
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            if state.is_over {
                return Ok(());
            }
            state.unflushed = 0;
            drop(state);
            rustix::fs::syncfs(root)?;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as it lives there may be something to bring to the disk.
pub(super) struct Running<'a>(&'a Flusher);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().is_over = true;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::*;

    #[test]
    fn sync_that_fails_is_told() {
        // Such a descriptor can be synced by nobody.
        let path = openat(CWD, ".", OFlags::PATH, Mode::empty()).unwrap();
        let flusher = Flusher::default();
        flusher.wrote(FLUSH);
        assert_eq!(flusher.work(path.as_fd()), Err(Errno::BADF));
        let directory = openat(CWD, ".", OFlags::RDONLY, Mode::empty()).unwrap();
        let flusher = Flusher::default();
        flusher.wrote(FLUSH - 1);
        drop(flusher.until_dropped());
        assert_eq!(flusher.work(directory.as_fd()), Ok(()));
    }
}
