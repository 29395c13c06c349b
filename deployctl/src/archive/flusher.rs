//! Lets the disk work while layers are still being read, so that little is left for the end.
//! `unpack` runs it beside the writers.

use std::{
    os::fd::BorrowedFd,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

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

    /// Ends [`Flusher::work`].
    pub(super) fn end(&self) {
        self.state().is_over = true;
        self.changed.notify_one();
    }

    /// Brings to the disk what was written to the file system of `root`, again and again. That
    /// it failed is of no interest here: the sync at the end fails as well.
    pub(super) fn work(&self, root: BorrowedFd<'_>) {
        loop {
            let wait = |state: &mut State| !state.is_over && state.unflushed < FLUSH;
            let state = self.changed.wait_while(self.state(), wait);
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            if state.is_over {
                return;
            }
            state.unflushed = 0;
            drop(state);
            let _ = rustix::fs::syncfs(root);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
