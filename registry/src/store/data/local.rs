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
    blocks::BlockFile,
    buffers::{BUFFER, Pool},
};
use crate::store::{
    error::{StoreError, causes},
    local::{Inner, LocalDirectory},
};

/// Two pieces are in memory for each upload: one that arrives, and one that is hashed and
/// written. Each is handed to other threads, so they are large while few uploads are under way,
/// and small while many are.
const PIECE_MAX: usize = 1024 * KIB;
const PIECE_MIN: usize = BUFFER;
const PIECES: usize = 2 * PIECE_MAX;

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

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn sink(&self, key: Path, progress: Progress) -> Box<dyn Sink> {
        Box::new(LocalSink {
            path: self.inner.file(&key),
            inner: self.inner.clone(),
            _counted: self.sinks.clone(),
            file: None,
            fresh: progress.length == 0,
            length: progress.length,
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
    file: Option<Arc<BlockFile>>,
    /// Whether no progress speaks of the file.
    fresh: bool,
    /// How much was taken in.
    length: u64,
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
}

impl LocalSink {
    /// Returns what writes the pieces behind what was taken in, opening the file where that was
    /// not done yet.
    fn write(
        &self,
        pieces: Vec<Bytes>,
    ) -> impl FnOnce() -> Result<Written, StoreError> + Send + use<> {
        let (offset, file) = (self.length, self.file.clone());
        let (inner, path) = (self.inner.clone(), self.path.clone());
        move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(BlockFile::new(open(&inner, &path, offset)?, &path)),
            };
            let cached = file.write(&pieces, offset)?;
            Ok(Written { file, cached })
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

    /// Returns the file, opened where that was not done yet.
    async fn opened(&mut self) -> Result<Arc<BlockFile>, StoreError> {
        self.written().await?;
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let opened = blocking(self.write(Vec::new())).await?;
        Ok(self.file.insert(opened.file).clone())
    }

    /// Waits until the file, cut to its length, and its name are on stable storage.
    async fn sync(&mut self) -> Result<(), StoreError> {
        let opened = self.opened().await?;
        self.flushed().await?;
        let length = self.length;
        let (inner, path) = (self.inner.clone(), self.path.clone());
        // At the same time: on most file systems one write of their journal does for both.
        let name = blocking(move || match path.parent() {
            Some(directory) => Ok(inner.directories.sync(directory)?),
            None => Ok(()),
        });
        let content = blocking(move || {
            let file = opened.file();
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
        let write = self.write(pieces.clone());
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
            tracing::warn!(
                cause = causes(&error),
                "cannot remove data of an upload that failed"
            );
        }
    }
}
