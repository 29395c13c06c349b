//! A blob into a file, going on where an earlier attempt stopped.

use std::{
    io,
    path::{Path, PathBuf},
};

use deploy_spec::{Digest, Hasher};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt, AsyncWriteExt, BufWriter},
};

use super::{ClientError, Progress, Repository};

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
        let result = self.download_rest(digest, size, path, progress).await;
        if let Err(ClientError::Digest { .. } | ClientError::Size { .. }) = result {
            // Best effort: the error that counts is the one at hand.
            tokio::fs::remove_file(path).await.ok();
        }
        result
    }

    async fn download_rest(
        &self,
        digest: &Digest,
        size: Option<u64>,
        path: &Path,
        progress: &Progress,
    ) -> Result<u64, ClientError> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = options.open(path).await.map_err(failed("open", path))?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut offset = read_through(&mut file, &mut hasher)
            .await
            .map_err(failed("read", path))?;
        if size.is_some_and(|size| offset > size) {
            file.set_len(0).await.map_err(failed("truncate", path))?;
            hasher = Hasher::new(digest.algorithm());
            offset = 0;
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
        };
        writer.flush().await.map_err(failed("write", path))?;
        let file = writer.into_inner();
        if result.is_ok() {
            file.sync_all().await.map_err(failed("sync", path))?;
        }
        result
    }
}

async fn read_through(file: &mut File, hasher: &mut Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; WRITE_BUFFER];
    let mut length = 0;
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
