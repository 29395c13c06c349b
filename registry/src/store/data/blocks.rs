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
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use rustix::{fs::OFlags, io::Errno};

use super::buffers::BLOCK;

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

    /// Writes the pieces, one behind the other, and returns how many bytes went by the page
    /// cache: all of them, where memory is not aligned as the file is.
    pub(super) fn write(&self, pieces: &[Bytes], offset: u64) -> io::Result<u64> {
        let mut parts: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        // Up to the first block, and from the end of the last.
        let (mut head, mut tail): (&[u8], &[u8]) = (&[], &[]);
        if let Some(part) = parts.first_mut() {
            let within = offset.next_multiple_of(BLOCK as u64) - offset;
            let within = usize::try_from(within).unwrap_or(BLOCK).min(part.len());
            (head, *part) = part.split_at(within);
        }
        if let Some(part) = parts.last_mut() {
            (*part, tail) = part.split_at(part.len() / BLOCK * BLOCK);
        }
        parts.retain(|part| !part.is_empty());
        let whole: usize = parts.iter().map(|part| part.len()).sum();
        let (first, last) = (offset + head.len() as u64, head.len() + whole);
        let cached = self.write_blocks(&parts, first)?;
        self.file.write_all_at(head, offset)?;
        self.file.write_all_at(tail, offset + last as u64)?;
        Ok(cached + (head.len() + tail.len()) as u64)
    }

    /// Writes all but the ends, and returns how many bytes went by the page cache after all.
    fn write_blocks(&self, parts: &[&[u8]], offset: u64) -> io::Result<u64> {
        let is_aligned = |part: &&[u8]| {
            part.as_ptr().align_offset(BLOCK) == 0 && part.len().is_multiple_of(BLOCK)
        };
        if let Some(direct) = &self.direct
            && !self.refused.load(Ordering::Relaxed)
            && offset.is_multiple_of(BLOCK as u64)
            && parts.iter().all(is_aligned)
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
    use crate::store::data::buffers::{BUFFER, Pool};

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
                let content = &bytes[start..start + length];
                for (direct, aligned) in [(true, true), (true, false), (false, true)] {
                    let path = directory.path().join("data");
                    let file = File::create(&path).unwrap();
                    file.write_all_at(&bytes[..start], 0).unwrap();
                    let mut file = BlockFile::new(file, &path);
                    file.direct = file.direct.filter(|_| direct);
                    let pieces = match aligned {
                        true => buffered(&pool, start as u64, content),
                        false => content.chunks(5000).map(Bytes::copy_from_slice).collect(),
                    };
                    let cached = file.write(&pieces, start as u64).unwrap();
                    assert!(cached <= length as u64);
                    let found = std::fs::read(&path).unwrap();
                    assert!(found == bytes[..start + length], "{start} {length}");
                }
            }
        }
    }

    fn buffered(pool: &Pool, mut offset: u64, mut content: &[u8]) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        while !content.is_empty() {
            let mut buffer = pool.take(offset);
            let filled = buffer.fill(content);
            content = &content[filled..];
            offset += filled as u64;
            pieces.push(Bytes::from(buffer));
        }
        pieces
    }
}
