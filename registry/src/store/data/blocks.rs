//! Bytes on their way to a file, past the page cache. Used by [`super::local`].
//!
//! What a blob's bytes would take in the page cache is lost to what is read all the time; and
//! to get there costs a copy, and pages that a virtual machine may have to ask its host for
//! first (seen: 4 s of CPU time per GiB, 0.2 s without). So whole blocks go from aligned memory
//! straight to the disk, where the file system can do that.
//!
//! What is no whole block, at the end of a blob or where an upload goes on in the middle of
//! one, goes the usual way.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{fs::OFlags, io::Errno};

const KIB: usize = 1024;
/// Offsets, lengths and addresses in memory are multiples of this: what any disk wants.
const BLOCK: usize = 4 * KIB;
/// What one buffer holds.
const BUFFER: usize = 64 * KIB;
/// Buffers that are kept for the next blob.
const KEPT_MAX: usize = 64;

/// A piece of a file: aligned in memory as it is in the file.
pub(super) struct Buffer {
    memory: Vec<u8>,
    /// Where the first block begins in `memory`.
    aligned: usize,
    /// What is filled, counted from there.
    start: usize,
    end: usize,
}

impl Buffer {
    /// Takes memory for a buffer, of which the first bytes stay unused.
    fn new(memory: Vec<u8>, unused: usize) -> Self {
        Self {
            aligned: memory.as_ptr().align_offset(BLOCK).min(BLOCK),
            memory,
            start: unused,
            end: unused,
        }
    }

    /// Takes what fits of the bytes, and returns how many.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.len().min(BUFFER - self.end);
        let place = self.aligned + self.end..self.aligned + self.end + length;
        self.end += length;
        self.memory[place].copy_from_slice(&bytes[..length]);
        length
    }

    /// Returns how many bytes it holds.
    pub(super) fn length(&self) -> u64 {
        (self.end - self.start) as u64
    }

    pub(super) fn is_full(&self) -> bool {
        self.end == BUFFER
    }

    fn filled(&self) -> &[u8] {
        &self.memory[self.aligned + self.start..self.aligned + self.end]
    }
}

/// Buffers that nobody fills right now. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// Returns an empty buffer for what stands at `offset` in its file.
    pub(super) fn take(&self, offset: u64) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = kept.unwrap_or_else(|| vec![0; BUFFER + BLOCK]);
        let within = usize::try_from(offset % BLOCK as u64).unwrap_or_default();
        Buffer::new(memory, within)
    }

    /// Keeps a buffer for others.
    pub(super) fn give(&self, buffer: Buffer) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(buffer.memory);
        }
    }
}

/// A file open for writing, past the page cache where that can be done.
#[derive(Debug)]
pub(super) struct BlockFile {
    file: File,
    direct: Option<File>,
    /// Set when the file system has turned out not to do what it said.
    refused: AtomicBool,
}

impl BlockFile {
    /// Takes the file at `path`, which is open.
    pub(super) fn new(file: File, path: &Path) -> Self {
        let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default();
        let direct = OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(path);
        Self {
            file,
            // Not every file system can.
            direct: direct.ok(),
            refused: AtomicBool::new(false),
        }
    }

    /// Returns the file, as it is open for everything else.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Writes the buffers, one behind the other, and returns how many bytes went by the page
    /// cache.
    pub(super) fn write(&self, buffers: &[Buffer], offset: u64) -> io::Result<u64> {
        let mut parts: Vec<&[u8]> = buffers.iter().map(Buffer::filled).collect();
        // Up to the first block, and from the end of the last.
        let (mut head, mut tail): (&[u8], &[u8]) = (&[], &[]);
        if let (Some(part), Some(buffer)) = (parts.first_mut(), buffers.first()) {
            let within = buffer.start.next_multiple_of(BLOCK) - buffer.start;
            (head, *part) = part.split_at(within.min(part.len()));
        }
        if let Some(part) = parts.last_mut() {
            (*part, tail) = part.split_at(part.len() / BLOCK * BLOCK);
        }
        let whole: usize = parts.iter().map(|part| part.len()).sum();
        let (first, last) = (offset + head.len() as u64, head.len() + whole);
        let cached = self.write_blocks(&parts, first)?;
        self.file.write_all_at(head, offset)?;
        self.file.write_all_at(tail, offset + last as u64)?;
        Ok(cached + (head.len() + tail.len()) as u64)
    }

    /// Writes whole blocks, and returns how many bytes went by the page cache after all.
    fn write_blocks(&self, parts: &[&[u8]], offset: u64) -> io::Result<u64> {
        if let Some(direct) = &self.direct
            && !self.refused.load(Ordering::Relaxed)
        {
            match write_all(direct, parts, offset) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.refused.store(true, Ordering::Relaxed);
                }
                written => return written.map(|_| 0),
            }
        }
        write_all(&self.file, parts, offset)
    }
}

/// Writes the parts, one behind the other, and returns how many bytes they are.
fn write_all(file: &File, parts: &[&[u8]], offset: u64) -> io::Result<u64> {
    let mut slices: Vec<IoSlice> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut slices = slices.as_mut_slice();
    let mut at = offset;
    // Those that are empty would be taken for the end.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match rustix::io::pwritev(file, slices, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(at - offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_holds_what_was_written_wherever_it_begins_and_ends() {
        let directory = tempfile::tempdir().unwrap();
        let pool = Pool::default();
        let bytes: Vec<u8> = (0..3 * BUFFER).map(|at| (at / 7 % 251) as u8).collect();
        for start in [0, 1, 4095, 4096, 5000, BUFFER - 1, BUFFER] {
            for length in [
                0,
                1,
                4095,
                4096,
                4097,
                BUFFER - 1,
                BUFFER,
                BUFFER + 1,
                2 * BUFFER,
            ] {
                for direct in [true, false] {
                    let path = directory.path().join("data");
                    let file = File::create(&path).unwrap();
                    file.write_all_at(&bytes[..start], 0).unwrap();
                    let mut file = BlockFile::new(file, &path);
                    file.direct = file.direct.filter(|_| direct);
                    let mut buffers = vec![pool.take(start as u64)];
                    let mut rest = &bytes[start..start + length];
                    while !rest.is_empty() {
                        if buffers.last().unwrap().is_full() {
                            buffers.push(pool.take(0));
                        }
                        let filled = buffers.last_mut().unwrap().fill(rest);
                        rest = &rest[filled..];
                    }
                    let cached = file.write(&buffers, start as u64).unwrap();
                    assert!(cached <= length as u64);
                    let found = std::fs::read(&path).unwrap();
                    assert!(found == bytes[..start + length], "{start} {length}");
                    buffers.into_iter().for_each(|buffer| pool.give(buffer));
                }
            }
        }
    }
}
