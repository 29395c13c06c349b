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

use super::{BlobData, KIB, Pieces, Progress, Sink, blocking};
use crate::store::{
    error::StoreError,
    local::{Inner, LocalDirectory},
};

/// Two pieces are in memory for each upload: one that arrives, one that is hashed and written.
const PIECE: usize = 256 * KIB;

/// Data files below a directory.
#[derive(Debug)]
pub(crate) struct LocalData(Arc<Inner>);

impl LocalData {
    pub(crate) fn new(directory: &LocalDirectory) -> Self {
        Self(directory.inner().clone())
    }
}

#[async_trait]
impl BlobData for LocalData {
    fn pieces(&self) -> Pieces {
        Pieces {
            wanted: PIECE,
            minimum: 1,
        }
    }

    fn sink(&self, key: Path, progress: Progress) -> Box<dyn Sink> {
        Box::new(LocalSink {
            path: self.0.file(&key),
            inner: self.0.clone(),
            file: None,
            length: progress.length,
        })
    }

    async fn discard(&self, key: &Path, _progress: &Progress) -> Result<(), StoreError> {
        self.forget(key).await
    }

    async fn forget(&self, key: &Path) -> Result<(), StoreError> {
        let path = self.0.file(key);
        blocking(move || match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        })
        .await
    }
}

struct LocalSink {
    inner: Arc<Inner>,
    path: PathBuf,
    file: Option<Arc<File>>,
    length: u64,
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
    /// Returns what makes the file's name durable. Done last: the journal that took the data
    /// has the name already on most file systems, so this costs little there.
    fn directory(&self) -> impl FnOnce() -> io::Result<()> + Send + 'static {
        let (inner, path) = (self.inner.clone(), self.path.clone());
        move || (path.parent()).map_or(Ok(()), |directory| inner.directories.sync(directory))
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
        self.length = end;
        Ok(hasher)
    }

    async fn checkpoint(&mut self) -> Result<Progress, StoreError> {
        let directory = self.directory();
        self.with_file(move |file| {
            file.sync_data()?;
            directory()
        })
        .await?;
        Ok(self.progress())
    }

    fn progress(&self) -> Progress {
        Progress {
            length: self.length,
            multipart: None,
        }
    }

    async fn complete(&mut self) -> Result<(), StoreError> {
        let (length, directory) = (self.length, self.directory());
        self.with_file(move |file| {
            // A longer attempt may have failed before.
            if file.metadata()?.len() != length {
                file.set_len(length)?;
            }
            file.sync_data()?;
            directory()
        })
        .await
    }
}
