//! Blob data in a local directory: each piece goes straight into the final file at its offset.
//! Made by [`crate::store::Store`] for `-dir`.
//!
//! One piece arrives while the one before is hashed and, by another thread, written.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use deploy_spec::Hasher;
use object_store::path::Path;
use tokio::task::JoinHandle;

use super::{
    BlobData, Completion, KIB, Pieces, Progress, Sink, blocking,
    blocks::{BlockFile, Buffer, Pool},
};
use crate::store::{
    error::StoreError,
    local::{Inner, LocalDirectory},
};

/// Two pieces are in memory for each upload, one of them twice: one that arrives, and one that
/// is hashed and written. Each is handed to other threads, so they are large where few uploads
/// are under way, and small where many are.
const PIECE_MAX: usize = 1024 * KIB;
const PIECE_MIN: usize = 64 * KIB;
const PIECES: usize = 4 * PIECE_MAX;

/// So much is in the page cache before the disk begins to take it, beside what arrives: what is
/// left for the end is short then, however large the blob. Most goes past the cache.
const FLUSH: u64 = 16 * 1024 * KIB as u64;

/// Data files below a directory.
#[derive(Debug)]
pub(crate) struct LocalData {
    inner: Arc<Inner>,
    /// One more than there are sinks.
    sinks: Arc<()>,
    pool: Pool,
}

impl LocalData {
    pub(crate) fn new(directory: &LocalDirectory) -> Self {
        Self {
            inner: directory.inner().clone(),
            sinks: Arc::default(),
            pool: Pool::default(),
        }
    }
}

#[async_trait]
impl BlobData for LocalData {
    fn pieces(&self) -> Pieces {
        let sinks = Arc::strong_count(&self.sinks);
        Pieces {
            wanted: (PIECES / sinks).clamp(PIECE_MIN, PIECE_MAX),
            minimum: 1,
        }
    }

    fn sink(&self, key: Path, progress: Progress) -> Box<dyn Sink> {
        Box::new(LocalSink {
            path: self.inner.file(&key),
            inner: self.inner.clone(),
            _counted: self.sinks.clone(),
            pool: self.pool.clone(),
            file: None,
            fresh: progress.length == 0,
            length: progress.length,
            rest: None,
            writing: None,
            unflushed: 0,
            flushing: None,
        })
    }

    async fn discard(&self, key: &Path, _progress: &Progress) -> Result<(), StoreError> {
        self.forget(key).await
    }

    async fn forget(&self, key: &Path) -> Result<(), StoreError> {
        let path = self.inner.file(key);
        if !LocalDirectory::is_data(key) {
            return Ok(self.inner.forget(key).await?);
        }
        blocking(move || match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        })
        .await
    }
}

struct LocalSink {
    inner: Arc<Inner>,
    _counted: Arc<()>,
    path: PathBuf,
    pool: Pool,
    file: Option<Arc<BlockFile>>,
    /// Whether no progress speaks of the file.
    fresh: bool,
    /// How much was taken in.
    length: u64,
    /// The last of it, while nothing is being written: it fills no buffer yet.
    rest: Option<Buffer>,
    /// Writes what was handed over.
    writing: Option<JoinHandle<Result<Written, StoreError>>>,
    /// How much went by the page cache since the disk was last told to take it.
    unflushed: u64,
    /// Brings to the disk what was written before.
    flushing: Option<JoinHandle<Result<(), StoreError>>>,
}

struct Written {
    file: Arc<BlockFile>,
    /// How much of it went by the page cache.
    cached: u64,
    /// What fills no buffer, and waits for more.
    rest: Option<Buffer>,
}

impl LocalSink {
    /// Returns what writes the pieces behind what was taken in, opening the file where that was
    /// not done yet. Of the last bytes, those that fill no buffer are left, unless it `is_last`.
    fn write(
        &mut self,
        pieces: Vec<Bytes>,
        is_last: bool,
    ) -> impl FnOnce() -> Result<Written, StoreError> + Send + use<> {
        let rest = self.rest.take();
        let offset = self.length - rest.as_ref().map_or(0, Buffer::length);
        let (file, pool) = (self.file.clone(), self.pool.clone());
        let (inner, path) = (self.inner.clone(), self.path.clone());
        move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(BlockFile::new(open(&inner, &path, offset)?, &path)),
            };
            let mut buffers: Vec<Buffer> = rest.into_iter().collect();
            let mut end = offset + buffers.first().map_or(0, Buffer::length);
            for piece in pieces {
                let mut bytes = &piece[..];
                while !bytes.is_empty() {
                    if buffers.last().is_none_or(Buffer::is_full) {
                        buffers.push(pool.take(end));
                    }
                    let Some(buffer) = buffers.last_mut() else {
                        break;
                    };
                    let copied = buffer.fill(bytes);
                    bytes = &bytes[copied..];
                    end += copied as u64;
                }
            }
            let rest = buffers.pop_if(|last| !is_last && !last.is_full());
            let cached = file.write(&buffers, offset)?;
            buffers.into_iter().for_each(|buffer| pool.give(buffer));
            Ok(Written { file, cached, rest })
        }
    }

    /// Waits for what was handed over to be written.
    async fn written(&mut self) -> Result<(), StoreError> {
        if let Some(writing) = self.writing.take() {
            let written = writing
                .await
                .unwrap_or_else(|failed| Err(io::Error::other(failed).into()))?;
            self.file = Some(written.file);
            self.unflushed += written.cached;
            self.rest = written.rest;
        }
        Ok(())
    }

    /// Lets the disk take what is in the page cache, where that is much, without waiting for it.
    async fn flush_behind(&mut self) -> Result<(), StoreError> {
        let busy = (self.flushing.as_ref()).is_some_and(|flushing| !flushing.is_finished());
        if self.unflushed < FLUSH || busy {
            return Ok(());
        }
        self.flushed().await?;
        if let Some(file) = self.file.clone() {
            self.unflushed = 0;
            let flush = move || Ok(file.file().sync_data()?);
            self.flushing = Some(tokio::task::spawn_blocking(flush));
        }
        Ok(())
    }

    /// Waits for what [`LocalSink::flush_behind`] began. The system tells of an error once.
    async fn flushed(&mut self) -> Result<(), StoreError> {
        match self.flushing.take() {
            None => Ok(()),
            Some(flushing) => flushing
                .await
                .unwrap_or_else(|failed| Err(io::Error::other(failed).into())),
        }
    }

    /// Waits until the file, cut to its length, and its name are on stable storage.
    async fn sync(&mut self) -> Result<(), StoreError> {
        self.written().await?;
        self.flushed().await?;
        if self.file.is_none() {
            let open = self.write(Vec::new(), false);
            self.file = Some(blocking(open).await?.file);
        }
        let write = self.write(Vec::new(), true);
        let length = self.length;
        let (inner, path) = (self.inner.clone(), self.path.clone());
        // At the same time: on most file systems one write of their journal does for both.
        let name = blocking(move || match path.parent() {
            Some(directory) => Ok(inner.directories.sync(directory)?),
            None => Ok(()),
        });
        let content = blocking(move || {
            let written = write()?;
            let file = written.file.file();
            // A longer attempt may have failed before.
            if file.metadata()?.len() > length {
                file.set_len(length)?;
            }
            Ok(file.sync_data()?)
        });
        tokio::try_join!(content, name).map(drop)
    }
}

/// Opens the data file to write behind `length`, or creates it at length 0.
fn open(inner: &Inner, path: &std::path::Path, length: u64) -> io::Result<File> {
    if length > 0 {
        // Not created: an upload whose data is gone must not go on with a hole in front.
        return OpenOptions::new().write(true).open(path);
    }
    let create = || {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
    };
    let Some(directory) = path.parent() else {
        return create();
    };
    inner.directories.ensure(directory)?;
    match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Somebody removed the directory under us.
            inner.directories.forget(directory);
            inner.directories.ensure(directory)?;
            create()
        }
        created => created,
    }
}

#[async_trait]
impl Sink for LocalSink {
    async fn append(
        &mut self,
        mut hasher: Hasher,
        pieces: Vec<Bytes>,
    ) -> Result<Hasher, StoreError> {
        self.written().await?;
        self.flush_behind().await?;
        let write = self.write(pieces.clone(), false);
        self.length += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        self.writing = Some(tokio::task::spawn_blocking(write));
        blocking(move || {
            pieces.iter().for_each(|piece| hasher.update(piece));
            Ok(hasher)
        })
        .await
    }

    async fn checkpoint(&mut self) -> Result<Progress, StoreError> {
        self.sync().await?;
        Ok(Progress {
            length: self.length,
            ..Progress::default()
        })
    }

    async fn complete(&mut self) -> Result<Completion, StoreError> {
        self.sync().await?;
        Ok(Completion::Here)
    }

    async fn abandon(&mut self) {
        // Whoever goes on writes to the same place.
        let _ = self.written().await;
        if !self.fresh {
            return;
        }
        let path = self.path.clone();
        // There may be a file even where opening it, or the first write to it, has failed.
        let removed = blocking(move || match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        });
        if let Err(error) = removed.await {
            tracing::warn!(cause = ?error, "cannot remove data of an upload that failed");
        }
    }
}
