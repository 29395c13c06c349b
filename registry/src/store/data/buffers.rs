//! Memory that bytes of blobs are gathered in on their way to the store. Filled by
//! [`crate::store::ingest`]; written by [`super::blocks`] as it is.
//!
//! A frame of a body is a slice of what its connection has read into: to hold on to it holds
//! all of that, and makes the connection take new memory for what comes next. So frames are
//! copied, once, to where they can go to the disk from, and memory goes round between blobs.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::KIB;

/// Addresses in memory are, within this, what offsets in the file are: what any disk wants.
pub(super) const BLOCK: usize = 4 * KIB;
/// What one buffer holds.
pub(crate) const BUFFER: usize = 64 * KIB;
/// Buffers that are kept for the next blob.
const KEPT_MAX: usize = 128;

/// A piece of a blob: aligned in memory as it will be in the file.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    /// Where the first block begins in `memory`.
    aligned: usize,
    /// What is filled, counted from there.
    start: usize,
    end: usize,
    pool: Pool,
}

impl Buffer {
    /// Takes what fits of the bytes, and returns how many.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.len().min(BUFFER - self.end);
        let place = self.aligned + self.end..self.aligned + self.end + length;
        self.end += length;
        self.memory[place].copy_from_slice(&bytes[..length]);
        length
    }

    pub(crate) fn is_full(&self) -> bool {
        self.end == BUFFER
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.aligned + self.start..self.aligned + self.end]
    }
}

impl From<Buffer> for Bytes {
    /// Returns the bytes; with the last clone of them the memory goes back to its pool.
    fn from(buffer: Buffer) -> Self {
        Self::from_owner(buffer)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Buffer({} bytes)", self.end - self.start)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(std::mem::take(&mut self.memory));
        }
    }
}

/// Memory of buffers that nobody holds right now. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// Returns an empty buffer for what will stand at `offset` in its file.
    pub(crate) fn take(&self, offset: u64) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = kept.unwrap_or_else(|| vec![0; BUFFER + BLOCK]);
        let unused = usize::try_from(offset % BLOCK as u64).unwrap_or_default();
        Buffer {
            aligned: memory.as_ptr().align_offset(BLOCK).min(BLOCK),
            memory,
            start: unused,
            end: unused,
            pool: self.clone(),
        }
    }
}
