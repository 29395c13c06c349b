//! Writes the content of files by several threads, in the order in which they get to it. Memory
//! is bounded by the queue before them, whatever the size of a file.

use std::{
    io::{Read, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use super::{
    ArchiveError,
    contents::{Contents, NewFile},
    flusher::Flusher,
    incoming::Incoming,
    large::LargeFile,
    reader::TarReader,
    takeover::Last,
};

/// How much is handed to a writer at once: many small files, or a piece of a large one.
const BATCH: usize = 256 << 10;
/// How many files at most are handed over at once, however small.
const PARTS: usize = 512;

/// Content, and what it is part of.
struct Batch {
    /// As long as a batch can be.
    bytes: Vec<u8>,
    filled: usize,
    parts: Vec<Part>,
}

struct Part {
    length: usize,
    of: Of,
}

enum Of {
    /// All of a file, with its name where an earlier tree may have it.
    File(NewFile, Option<Box<[u8]>>),
    /// What stands at an offset of a large one.
    Piece(Arc<LargeFile>, u64),
}

/// The queue before the writers.
pub(super) struct Queue {
    incoming: Arc<Incoming>,
    /// Gone once writing has failed: then nothing is taken in any more.
    batches: Mutex<Option<Receiver<Batch>>>,
    failure: Mutex<Option<ArchiveError>>,
    spent: Spent,
    flusher: Flusher,
}

/// Batches that are written and can be filled again.
type Spent = Arc<Mutex<Vec<Batch>>>;

impl Queue {
    /// Returns the queue of `writers` writers, and the way into it.
    pub(super) fn new(incoming: Arc<Incoming>, writers: usize) -> (Self, Entrance) {
        let (sender, receiver) = sync_channel(2 * writers);
        let queue = Self {
            incoming: Arc::clone(&incoming),
            batches: Mutex::new(Some(receiver)),
            failure: Mutex::new(None),
            spent: Spent::default(),
            flusher: Flusher::default(),
        };
        let entrance = Entrance {
            incoming,
            sender,
            spent: Arc::clone(&queue.spent),
        };
        (queue, entrance)
    }

    /// Writes what comes until nothing more can come, or writing fails.
    pub(super) fn work(&self) {
        let mut last = Last::default();
        while let Some(mut batch) = self.next() {
            match self.write(&batch, &mut last) {
                Ok(()) => {
                    batch.filled = 0;
                    batch.parts.clear();
                    locked(&self.spent).push(batch);
                }
                Err(error) => {
                    locked(&self.failure).get_or_insert(error);
                    *locked(&self.batches) = None;
                }
            }
        }
    }

    /// Returns what brings to the disk what was written.
    pub(super) fn flusher(&self) -> &Flusher {
        &self.flusher
    }

    /// Returns why not everything was written, where something was not.
    pub(super) fn failure(&self) -> Option<ArchiveError> {
        locked(&self.failure).take()
    }

    fn next(&self) -> Option<Batch> {
        locked(&self.batches).as_ref()?.recv().ok()
    }

    fn write(&self, batch: &Batch, last: &mut Last) -> Result<(), ArchiveError> {
        let mut rest = &batch.bytes[..batch.filled];
        let mut written = 0;
        for part in &batch.parts {
            let (bytes, behind) = rest.split_at(part.length);
            rest = behind;
            match &part.of {
                Of::File(new, Some(name)) if self.link(name, new, bytes, last)? => {}
                Of::File(new, _) => {
                    let mut file = self.incoming.open(new.content)?;
                    (file.write_all(bytes))
                        .map_err(|error| self.incoming.failed("write", new.content, error))?;
                    self.incoming.describe(&file, new)?;
                    written += bytes.len() as u64;
                }
                Of::Piece(large, offset) => {
                    large.take(bytes, *offset, &self.incoming, &self.flusher)?;
                }
            }
        }
        self.flusher.wrote(written);
        Ok(())
    }

    /// Has a file be the earlier tree's where that has it exactly so. Returns whether it is.
    fn link(
        &self,
        name: &[u8],
        new: &NewFile,
        bytes: &[u8],
        last: &mut Last,
    ) -> Result<bool, ArchiveError> {
        match self.incoming.candidate(name, new, last) {
            Some(candidate) if candidate.has(bytes, 0) => self.incoming.link(new, &candidate),
            _ => Ok(false),
        }
    }
}

/// The way into a queue; the writers end once every clone is gone.
#[derive(Clone)]
pub(super) struct Entrance {
    incoming: Arc<Incoming>,
    sender: SyncSender<Batch>,
    spent: Spent,
}

impl Entrance {
    fn batch(&self) -> Batch {
        locked(&self.spent).pop().unwrap_or_else(|| Batch {
            bytes: vec![0; BATCH],
            filled: 0,
            parts: Vec::new(),
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Collects the content of one layer's files into batches.
pub(super) struct Batches {
    entrance: Entrance,
    batch: Batch,
    /// Bytes of names and extended attributes in the batch.
    held: u64,
}

impl Batches {
    pub(super) fn new(entrance: Entrance) -> Self {
        Self {
            batch: entrance.batch(),
            entrance,
            held: 0,
        }
    }

    fn room(&self) -> usize {
        BATCH - self.batch.filled
    }

    /// Takes `length` bytes into the batch, for which there is room.
    fn fill<R: Read>(
        &mut self,
        length: usize,
        of: Of,
        reader: &mut TarReader<R>,
    ) -> Result<(), ArchiveError> {
        let end = self.batch.filled + length;
        reader.read(&mut self.batch.bytes[self.batch.filled..end])?;
        self.batch.filled = end;
        self.batch.parts.push(Part { length, of });
        Ok(())
    }

    fn send(&mut self) -> Result<(), ArchiveError> {
        self.held = 0;
        let next = self.entrance.batch();
        let batch = std::mem::replace(&mut self.batch, next);
        // Nobody takes it where writing has failed; why is known there.
        let sent = self.entrance.sender.send(batch);
        sent.map_err(|_| ArchiveError::Interrupted)
    }
}

impl Contents for Batches {
    fn take<R: Read>(
        &mut self,
        name: &[u8],
        file: NewFile,
        reader: &mut TarReader<R>,
    ) -> Result<(), ArchiveError> {
        let size = file.size;
        if let Ok(length) = usize::try_from(size)
            && length <= BATCH
        {
            let extended = file.extended.as_ref();
            let name: Option<Box<[u8]>> = self.entrance.incoming.links().then(|| name.into());
            let held = extended.map_or(0, |extended| extended.bytes())
                + name.as_ref().map_or(0, |name| name.len() as u64);
            if self.room() < length || self.batch.parts.len() == PARTS || self.held > BATCH as u64 {
                self.send()?;
            }
            self.held += held;
            return self.fill(length, Of::File(file, name), reader);
        }
        let large = Arc::new(LargeFile::begin(&self.entrance.incoming, name, file)?);
        let mut offset = 0;
        while offset < size {
            if self.room() == 0 {
                self.send()?;
            }
            let room = self.room();
            let length = usize::try_from(size - offset).map_or(room, |rest| rest.min(room));
            self.fill(length, Of::Piece(Arc::clone(&large), offset), reader)?;
            offset += length as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        match self.batch.parts.is_empty() {
            true => Ok(()),
            false => self.send(),
        }
    }
}
