//! Readers and writers that count and hash what passes. The ends of every pipe of `archive`.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    rc::Rc,
};

use deploy_spec::{Algorithm, Digest, Hasher};

/// Counts the bytes that passed; shared between a pipe's end and its middle.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter(Rc<Cell<u64>>);

impl Counter {
    pub(super) fn get(&self) -> u64 {
        self.0.get()
    }

    fn add(&self, count: usize) {
        self.0.set(self.0.get() + count as u64);
    }
}

/// Hashes and counts what is read through it.
pub(super) struct MeasuringReader<R> {
    inner: R,
    hasher: Option<Hasher>,
    counter: Counter,
}

impl<R: Read> MeasuringReader<R> {
    /// Reads `inner`, hashing with `algorithm` where one is given.
    pub(super) fn new(inner: R, algorithm: Option<Algorithm>) -> Self {
        Self {
            inner,
            hasher: algorithm.map(Hasher::new),
            counter: Counter::default(),
        }
    }

    /// Returns a view of the count that moves on with the reading.
    pub(super) fn counter(&self) -> Counter {
        self.counter.clone()
    }

    /// Returns what was read from, and the digest of what was read.
    pub(super) fn finish(self) -> (R, Option<Digest>) {
        (self.inner, self.hasher.map(Hasher::finish))
    }
}

impl<R: Read> Read for MeasuringReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        self.counter.add(count);
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
