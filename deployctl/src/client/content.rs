//! What is uploaded, from wherever it is. Read by `sending`, handed over by verbs and importers.

use std::path::PathBuf;

use bytes::Bytes;
use deploy_spec::Digest;
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::{Check, ClientError, Part, Repository, download::failed};

/// How much is read from a file at a time.
const READ_BUFFER: usize = 256 * 1024;

/// Where the bytes of an upload come from. They can be read more than once.
#[derive(Clone, Debug)]
pub enum Content {
    /// Out of memory.
    Bytes(Bytes),
    /// Out of a file, of which the given number of bytes is sent.
    File {
        /// The file.
        path: PathBuf,
        /// How many bytes it has.
        size: u64,
    },
    /// Out of a part of an open file, whatever becomes of its name.
    Part(Part),
    /// Out of another repository, passing through.
    Blob {
        /// The repository.
        repository: Repository,
        /// The size of the blob.
        size: u64,
    },
    /// Out of anywhere, seen by somebody who has a say before the last byte goes.
    Checked {
        /// Where from.
        content: Box<Content>,
        /// Who sees it.
        check: Check,
    },
}

impl Content {
    /// Returns the number of bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } | Self::Blob { size, .. } => *size,
            Self::Part(part) => part.size,
            Self::Checked { content, .. } => content.size(),
        }
    }

    /// Returns the bytes from `offset` on, `length` of them.
    pub(super) async fn read(
        &self,
        digest: &Digest,
        offset: u64,
        length: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, ClientError>>, ClientError> {
        match self {
            Self::Bytes(bytes) => {
                let index = |value: u64| usize::try_from(value).expect("an offset in memory");
                let part = bytes.slice(index(offset)..index(offset + length));
                Ok(futures::stream::once(async { Ok(part) }).boxed())
            }
            Self::File { path, .. } => {
                let file = tokio::fs::File::open(path).await;
                let mut file = file.map_err(failed("open", path))?;
                let position = std::io::SeekFrom::Start(offset);
                file.seek(position).await.map_err(failed("read", path))?;
                let path = path.clone();
                let pieces = ReaderStream::with_capacity(file.take(length), READ_BUFFER);
                Ok(pieces
                    .map(move |piece| piece.map_err(failed("read", &path)))
                    .boxed())
            }
            Self::Part(part) => Ok(part.read(offset, length).boxed()),
            Self::Checked { content, check } => {
                let pieces = Box::pin(content.read(digest, offset, length)).await?;
                Ok(check.passing(pieces, offset, content.size()).boxed())
            }
            Self::Blob { repository, size } => {
                let reader = repository.blob_from(digest, Some(*size), offset);
                Ok(limited(reader.into_stream(), length).boxed())
            }
        }
    }

    /// Shows the bytes before `end` to whoever has a say, as far as he has not seen them: those that
    /// are not sent, because a registry has them already.
    pub(super) async fn show(&self, digest: &Digest, end: u64) -> Result<(), ClientError> {
        let Self::Checked { content, check } = self else {
            return Ok(());
        };
        let seen = check.seen().await;
        let Some(length) = end.checked_sub(seen).filter(|length| *length > 0) else {
            return Ok(());
        };
        let pieces = Box::pin(content.read(digest, seen, length)).await?;
        let passing = check.passing(pieces, seen, content.size());
        passing.try_for_each(|_| std::future::ready(Ok(()))).await
    }
}

/// Ends the stream after `length` bytes.
fn limited(
    pieces: impl Stream<Item = Result<Bytes, ClientError>> + Send + 'static,
    length: u64,
) -> impl Stream<Item = Result<Bytes, ClientError>> + Send {
    let state = (Box::pin(pieces), length);
    futures::stream::try_unfold(state, |(mut pieces, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(mut piece) = pieces.try_next().await? else {
            return Ok(None);
        };
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - piece.len() as u64;
        Ok(Some((piece, (pieces, left))))
    })
}
