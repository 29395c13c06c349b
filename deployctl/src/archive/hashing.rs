//! The digest of what is read, computed on a thread of its own once that is much: of a large
//! layer one processor decompresses then while others hash. Used by `measure`.

use std::{
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::{Builder, JoinHandle},
};

use deploy_spec::{Digest, Hasher};

use super::threads::parallelism;

/// The size of a chunk: large enough that system calls and handing it over vanish beside the
/// hashing, small enough to stay in a processor's cache.
pub(super) const CHUNK: usize = 128 << 10;
/// How many chunks are hashed by whoever reads them: less is done before a thread has begun.
const HERE: usize = 8;
/// How many chunks wait to be hashed. With those that are filled and hashed meanwhile, this
/// bounds the memory.
const AHEAD: usize = 4;

/// Some bytes that were read, in a buffer of [`CHUNK`] bytes.
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    /// How many of the bytes were read.
    pub(super) length: usize,
}

impl Chunk {
    pub(super) fn empty() -> Self {
        Self {
            bytes: vec![0; CHUNK],
            length: 0,
        }
    }
}

/// Hashes one chunk after the other.
pub(super) enum ChunkHasher {
    /// By whoever reads.
    Here { hasher: Hasher, chunks: usize },
    /// Beside whoever reads.
    Beside(Beside),
}

/// A thread that hashes. It ends when this is dropped.
pub(super) struct Beside {
    way: SyncSender<Chunk>,
    hashed: Receiver<Chunk>,
    thread: JoinHandle<Hasher>,
}

impl ChunkHasher {
    pub(super) fn new(hasher: Hasher) -> Self {
        Self::Here { hasher, chunks: 0 }
    }

    /// Takes the next chunk in and returns a buffer that can be filled, with anything in it.
    pub(super) fn take(&mut self, chunk: Chunk) -> Chunk {
        if let Self::Here { hasher, chunks } = self
            && *chunks == HERE
            && let Some(beside) = Beside::start(hasher)
        {
            *self = Self::Beside(beside);
        }
        match self {
            Self::Here { hasher, chunks } => {
                hasher.update(&chunk.bytes[..chunk.length]);
                *chunks += 1;
                chunk
            }
            Self::Beside(beside) => beside.take(chunk),
        }
    }

    /// Returns the digest of all chunks.
    pub(super) fn finish(self) -> Digest {
        match self {
            Self::Here { hasher, .. } => hasher.finish(),
            Self::Beside(beside) => beside.finish(),
        }
    }
}

impl Beside {
    /// Goes on from `hasher` on another thread. Nothing where that would be no gain, or where the
    /// system has none left.
    fn start(hasher: &Hasher) -> Option<Self> {
        if parallelism() == 1 {
            return None;
        }
        let (way, chunks) = sync_channel(AHEAD);
        let (back, hashed) = channel();
        let hasher = hasher.clone();
        let thread = Builder::new()
            .name("hash".to_owned())
            .spawn(move || hash(hasher, &chunks, &back));
        Some(Self {
            way,
            hashed,
            thread: thread.ok()?,
        })
    }

    fn take(&self, chunk: Chunk) -> Chunk {
        let taken = self.way.send(chunk);
        assert!(taken.is_ok(), "hashing ended before what it hashes");
        self.hashed.try_recv().unwrap_or_else(|_| Chunk::empty())
    }

    fn finish(self) -> Digest {
        drop(self.way);
        let hasher = self.thread.join().expect("hashing does not panic");
        hasher.finish()
    }
}

fn hash(mut hasher: Hasher, chunks: &Receiver<Chunk>, back: &Sender<Chunk>) -> Hasher {
    for chunk in chunks {
        hasher.update(&chunk.bytes[..chunk.length]);
        // Nobody wants it back at the end.
        drop(back.send(chunk));
    }
    hasher
}

#[cfg(test)]
mod tests {
    use deploy_spec::Algorithm;

    use super::*;

    #[test]
    fn chunks_give_the_digest_of_all_their_bytes_here_and_beside() {
        for count in [0, 1, HERE, HERE + 1, 20 * HERE] {
            let mut hasher = ChunkHasher::new(Hasher::new(Algorithm::Sha256));
            let mut whole = Vec::new();
            let mut chunk = Chunk::empty();
            for index in 0..count {
                chunk.length = if index + 1 == count { 7 } else { CHUNK };
                let fill = u8::try_from(index % 251).unwrap();
                chunk.bytes[..chunk.length].fill(fill);
                whole.extend_from_slice(&chunk.bytes[..chunk.length]);
                chunk = hasher.take(chunk);
                assert_eq!(chunk.bytes.len(), CHUNK);
            }
            assert_eq!(hasher.finish(), Digest::sha256(&whole), "{count} chunks");
        }
    }
}
