//! A blob into a file, going on where an earlier attempt stopped.

use std::{
    io::{self, SeekFrom},
    path::{Path, PathBuf},
};

use deploy_spec::{Digest, Hasher};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufWriter},
};

use super::{BlobReader, ClientError, Progress, Repository, saved_hash::SavedHash};

/// How much is written to the file at a time; smaller pieces would each cost a hop to the
/// threads that file operations block on.
const WRITE_BUFFER: usize = 1024 * 1024;

impl Repository {
    /// Downloads a blob to a file and returns its size. What the file holds already is taken
    /// for the blob's beginning, hashed, and not asked for again.
    ///
    /// When it returns, the file is the blob, verified and synced; its directory is not synced
    /// and nothing is renamed, which is the caller's part. After a failure the file holds what
    /// had come, for the next attempt, unless that was wrong: then it is gone.
    ///
    /// How far it is hashed is kept beside the file (`<path>.state`) until it is whole or gone, so
    /// that the next attempt reads no more of it than came since. That counts until the system
    /// starts anew: after a power cut, which may take bytes that were hashed, all of it is read.
    /// Bytes that rot on the disk between two attempts go unseen here, as those do that rot after
    /// the last one: they are found when the blob is used, as a layer is verified again when it is
    /// unpacked. Where what was kept is wrong, the end shows it, and the whole file is read once
    /// before it is given up.
    ///
    /// # Errors
    /// [`ClientError::File`], [`ClientError::Digest`], [`ClientError::Size`],
    /// [`ClientError::NotFound`], and whatever befalls a request.
    pub async fn download(
        &self,
        digest: &Digest,
        size: Option<u64>,
        path: &Path,
        progress: &Progress,
    ) -> Result<u64, ClientError> {
        let mut saved = SavedHash::beside(path, digest);
        let result = self
            .download_rest(digest, size, path, progress, &mut saved)
            .await;
        match result {
            Ok(_) => saved.remove().await,
            Err(ClientError::Digest { .. } | ClientError::Size { .. }) => {
                // Best effort: the error that counts is the one at hand.
                tokio::fs::remove_file(path).await.ok();
                saved.remove().await;
            }
            Err(_) => {}
        }
        result
    }

    async fn download_rest(
        &self,
        digest: &Digest,
        size: Option<u64>,
        path: &Path,
        progress: &Progress,
        saved: &mut SavedHash,
    ) -> Result<u64, ClientError> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = options.open(path).await.map_err(failed("open", path))?;
        let length = file.metadata().await.map_err(failed("read", path))?.len();
        let (mut unread, mut hasher) = saved.load(length).await;
        let mut offset = read_from(&mut file, unread, &mut hasher)
            .await
            .map_err(failed("read", path))?;
        if size.is_some_and(|size| offset > size) {
            file.set_len(0).await.map_err(failed("truncate", path))?;
            saved.remove().await;
            hasher = Hasher::new(digest.algorithm());
            (unread, offset) = (0, 0);
        }
        progress.report(offset);
        let mut reader = self.blob_resumed(digest, size, offset, hasher);
        let mut writer = BufWriter::with_capacity(WRITE_BUFFER, file);
        let result = loop {
            match reader.next().await {
                Ok(Some(chunk)) => {
                    writer
                        .write_all(&chunk)
                        .await
                        .map_err(failed("write", path))?;
                    progress.report(reader.position());
                }
                Ok(None) => break Ok(reader.position()),
                Err(error) => break Err(error),
            }
            if saved.is_due(reader.position()) {
                writer.flush().await.map_err(failed("write", path))?;
                save(saved, &reader).await;
            }
        };
        writer.flush().await.map_err(failed("write", path))?;
        let mut file = writer.into_inner();
        let result = match result {
            Err(error) if unread > 0 => read_again(&mut file, path, error).await,
            result => result,
        };
        match &result {
            Ok(_) => file.sync_all().await.map_err(failed("sync", path))?,
            // The file is about to go.
            Err(ClientError::Digest { .. } | ClientError::Size { .. }) => {}
            Err(_) => save(saved, &reader).await,
        }
        result
    }
}

/// Returns the length of a file that is the blob after all, where it did not seem so: what was
/// saved of its beginning may be wrong. Any other error is returned as it is.
async fn read_again(file: &mut File, path: &Path, error: ClientError) -> Result<u64, ClientError> {
    let ClientError::Digest {
        operation,
        expected,
        ..
    } = error
    else {
        return Err(error);
    };
    let mut hasher = Hasher::new(expected.algorithm());
    let length = read_from(file, 0, &mut hasher)
        .await
        .map_err(failed("read", path))?;
    match hasher.finish() {
        found if found == expected => Ok(length),
        found => Err(ClientError::Digest {
            operation,
            expected,
            found,
        }),
    }
}

/// Saves how far everything is hashed that was read, and that the file was handed.
async fn save(saved: &mut SavedHash, reader: &BlobReader) {
    if let Some(hasher) = reader.hasher() {
        saved.save(reader.position(), hasher).await;
    }
}

/// Reads a file from `start` to its end, and returns where that is.
async fn read_from(file: &mut File, start: u64, hasher: &mut Hasher) -> io::Result<u64> {
    let mut length = file.seek(SeekFrom::Start(start)).await?;
    let mut buffer = vec![0; WRITE_BUFFER];
    loop {
        let count = file.read(&mut buffer).await?;
        if count == 0 {
            return Ok(length);
        }
        hasher.update(&buffer[..count]);
        length += count as u64;
    }
}

/// Returns the error of a file operation for use with `map_err`.
pub(super) fn failed(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> ClientError {
    let path = path.into();
    move |source| ClientError::File {
        action,
        path,
        source,
    }
}
