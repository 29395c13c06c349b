//! Readers and writers that count and hash what passes. The ends of every pipe of `archive`.

use std::io::{self, BufRead, ErrorKind, Read, Write};

use deploy_spec::{Algorithm, Digest, Hasher};

use super::hashing::{Chunk, ChunkHasher};

/// Reads in large chunks, hashes and counts what is read.
pub(super) struct MeasuringReader<R> {
    inner: R,
    hasher: Option<ChunkHasher>,
    chunk: Chunk,
    /// How much of the chunk was consumed.
    consumed: usize,
    /// Why the chunk is the last one.
    failure: Option<io::Error>,
    size: u64,
}

impl<R: Read> MeasuringReader<R> {
    /// Reads `inner`, hashing with `algorithm` where one is given.
    pub(super) fn new(inner: R, algorithm: Option<Algorithm>) -> Self {
        Self {
            inner,
            hasher: algorithm.map(|algorithm| ChunkHasher::new(Hasher::new(algorithm))),
            chunk: Chunk::empty(),
            consumed: 0,
            failure: None,
            size: 0,
        }
    }

    /// Returns what is read from.
    pub(super) fn get_ref(&self) -> &R {
        &self.inner
    }

    /// Returns how many bytes were read from it, consumed or not.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Reads to the end.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        loop {
            let ready = self.fill_buf()?.len();
            if ready == 0 {
                return Ok(());
            }
            self.consume(ready);
        }
    }

    /// Returns what was read from, and the digest of what was read.
    pub(super) fn finish(mut self) -> (R, Option<Digest>) {
        self.hash();
        (self.inner, self.hasher.map(ChunkHasher::finish))
    }

    /// Has the chunk hashed and leaves an empty one.
    fn hash(&mut self) {
        if self.chunk.length > 0
            && let Some(hasher) = &mut self.hasher
        {
            // No bytes, so nothing is allocated.
            let unused = Chunk {
                bytes: Vec::new(),
                length: 0,
            };
            self.chunk = hasher.take(std::mem::replace(&mut self.chunk, unused));
        }
        self.chunk.length = 0;
        self.consumed = 0;
    }

    /// Fills the chunk, as far as there are bytes.
    fn refill(&mut self) -> io::Result<()> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.hash();
        let Chunk { bytes, length } = &mut self.chunk;
        while *length < bytes.len() {
            match self.inner.read(&mut bytes[*length..]) {
                Ok(0) => break,
                Ok(count) => *length += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if *length == 0 => return Err(error),
                // What came before it is read first.
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
        }
        self.size += *length as u64;
        Ok(())
    }
}

impl<R: Read> BufRead for MeasuringReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.consumed == self.chunk.length {
            self.refill()?;
        }
        Ok(&self.chunk.bytes[self.consumed..self.chunk.length])
    }

    fn consume(&mut self, count: usize) {
        self.consumed += count;
    }
}

impl<R: Read> Read for MeasuringReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// Hashes and counts what is written through it.
pub(super) struct MeasuringWriter<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> MeasuringWriter<W> {
    /// Writes to `inner`, hashing with SHA-256.
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(Algorithm::Sha256),
            size: 0,
        }
    }

    /// Returns what was written to, with digest and size of what was written.
    pub(super) fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.size)
    }
}

impl<W: Write> Write for MeasuringWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
