//! Blob data in a local directory: each piece goes straight into the final file at its offset.
//! Made by [`crate::store::Store`] for `-dir`.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use deploy_spec::Hasher;
use object_store::path::Path;
use tokio::task::JoinHandle;

use super::{BlobData, Completion, KIB, Pieces, Progress, Sink, blocking};
use crate::store::{
    error::StoreError,
    local::{Inner, LocalDirectory},
};

/// Two pieces are in memory for each upload: one that arrives, one that is hashed and written.
/// Each is handed to another thread, so they are large where few uploads are under way, and
/// small where many are: 64 at a time hold 33 MiB.
const PIECE_MAX: usize = 1024 * KIB;
const PIECE_MIN: usize = 128 * KIB;
const PIECES: usize = 4 * PIECE_MAX;

/// So much is written before the disk begins to take it, beside what arrives: what is left for
/// the end is short then, however large the blob.
const FLUSH: u64 = 16 * 1024 * KIB as u64;

/// Data files below a directory.
#[derive(Debug)]
pub(crate) struct LocalData {
    inner: Arc<Inner>,
    /// One more than there are sinks.
    sinks: Arc<()>,
}

impl LocalData {
    pub(crate) fn new(directory: &LocalDirectory) -> Self {
        Self {
            inner: directory.inner().clone(),
            sinks: Arc::default(),
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
            file: None,
            fresh: progress.length == 0,
            length: progress.length,
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
    file: Option<Arc<File>>,
    /// Whether no progress speaks of the file.
    fresh: bool,
    length: u64,
    /// How much was written since the disk was last told to take it.
    unflushed: u64,
    /// Brings to the disk what was written before.
    flushing: Option<JoinHandle<Result<(), StoreError>>>,
}

impl LocalSink {
    /// Runs `work` on the file, opening it where that was not done yet.
    async fn with_file<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (file, inner, path, length) = (
            self.file.clone(),
            self.inner.clone(),
            self.path.clone(),
            self.length,
        );
        let (file, done) = blocking(move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(open(&inner, &path, length)?),
            };
            let done = work(&file)?;
            Ok((file, done))
        })
        .await?;
        self.file = Some(file);
        Ok(done)
    }
}

impl LocalSink {
    /// Lets the disk take what is written, where that is much, without waiting for it.
    async fn flush_behind(&mut self) -> Result<(), StoreError> {
        let busy = (self.flushing.as_ref()).is_some_and(|flushing| !flushing.is_finished());
        if self.unflushed < FLUSH || busy {
            return Ok(());
        }
        self.flushed().await?;
        if let Some(file) = self.file.clone() {
            self.unflushed = 0;
            let flush = move || Ok(file.sync_data()?);
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
        self.flushed().await?;
        if self.file.is_none() {
            self.with_file(|_| Ok(())).await?;
        }
        let length = self.length;
        let (inner, path) = (self.inner.clone(), self.path.clone());
        // At the same time: on most file systems one write of their journal does for both.
        let name = blocking(move || match path.parent() {
            Some(directory) => Ok(inner.directories.sync(directory)?),
            None => Ok(()),
        });
        let content = self.with_file(move |file| {
            // A longer attempt may have failed before.
            if file.metadata()?.len() > length {
                file.set_len(length)?;
            }
            file.sync_data()
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
        let start = self.length;
        let (hasher, end) = self
            .with_file(move |file| {
                let mut offset = start;
                for piece in pieces {
                    hasher.update(&piece);
                    file.write_all_at(&piece, offset)?;
                    offset += piece.len() as u64;
                }
                Ok((hasher, offset))
            })
            .await?;
        self.unflushed += end - self.length;
        self.length = end;
        self.flush_behind().await?;
        Ok(hasher)
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
