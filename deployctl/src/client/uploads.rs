//! Blobs into a registry: looked for, mounted, sent whole or in chunks, resumed after a break.

use std::path::PathBuf;

use bytes::Bytes;
use deploy_spec::{Digest, RepositoryName};
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::{
    Check, ClientError, Part, Progress, Repository,
    download::failed,
    retry::Activity,
    sessions::{Mount, Session},
};

/// Up to this size a blob goes in one request: it is sent again faster than it is asked about.
const WHOLE_MAX: u64 = 16 * 1024 * 1024;
/// The size of a chunk. Proxies in front of registries commonly take bodies of 100 MB at most.
const CHUNK: u64 = 64 * 1024 * 1024;
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

/// What an upload had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// Nothing: the repository had the blob.
    Existed,
    /// It was mounted from another repository of the registry, and no byte moved.
    Mounted,
    /// The bytes were sent.
    Sent,
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
    async fn read(
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

impl Repository {
    /// Makes sure that the repository has a blob: looks for it, then sends it.
    ///
    /// Idempotent. Blobs above 16 MiB go in chunks; after a break the registry is asked how far
    /// it is, and the rest follows.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] with code `DIGEST_INVALID` where the content
    /// is not what its digest says.
    pub async fn upload(
        &self,
        digest: &Digest,
        content: &Content,
        progress: &Progress,
    ) -> Result<Uploaded, ClientError> {
        if self.blob_size(digest).await?.is_some() {
            progress.report(content.size());
            return Ok(Uploaded::Existed);
        }
        self.send_blob(digest, content, progress).await?;
        Ok(Uploaded::Sent)
    }

    /// Mounts a blob from another repository of the registry, or from wherever the registry has
    /// it where `from` is not given. Returns whether it did.
    ///
    /// # Errors
    /// [`ClientError`]; that the registry cannot or will not mount is none.
    pub async fn mount(
        &self,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<bool, ClientError> {
        match self.try_mount(digest, from).await? {
            Mount::Mounted => Ok(true),
            Mount::Declined => Ok(false),
            Mount::Session(session) => {
                self.cancel(digest, session).await;
                Ok(false)
            }
        }
    }

    /// Sends a blob without looking for it first.
    async fn send_blob(
        &self,
        digest: &Digest,
        content: &Content,
        progress: &Progress,
    ) -> Result<(), ClientError> {
        let mut failures = 0;
        loop {
            let session = self.begin(digest).await?;
            let result = match content.size() {
                size if size <= WHOLE_MAX => {
                    self.send_whole(digest, session, content, progress).await
                }
                _ => self.send_chunks(digest, session, content, progress).await,
            };
            failures += 1;
            match result {
                Ok(()) => return Ok(()),
                Err(error) if failures < self.transport.policy.attempts && is_resumable(&error) => {
                    tracing::debug!(blob.digest = %digest, %error, "uploading anew");
                    tokio::time::sleep(self.transport.policy.delay(failures)).await;
                }
                Err(error) => return Err(error),
            }
            if self.blob_size(digest).await?.is_some() {
                // Only the answer was lost.
                return Ok(());
            }
        }
    }

    async fn send_whole(
        &self,
        digest: &Digest,
        session: Session,
        content: &Content,
        progress: &Progress,
    ) -> Result<(), ClientError> {
        let activity = Activity::new();
        let pieces = content.read(digest, 0, content.size()).await?;
        let (body, failure) = body(pieces, 0, &activity, progress);
        let sent = self.put_whole(digest, session, content.size(), body, &activity);
        failure.instead_of(sent.await)
    }

    async fn send_chunks(
        &self,
        digest: &Digest,
        mut session: Session,
        content: &Content,
        progress: &Progress,
    ) -> Result<(), ClientError> {
        let size = content.size();
        let mut failures = 0;
        while session.offset < size {
            let offset = session.offset;
            let length = CHUNK.max(session.chunk_min).min(size - offset);
            let activity = Activity::new();
            let pieces = content.read(digest, offset, length).await?;
            let (body, failure) = body(pieces, offset, &activity, progress);
            let sent = self.patch(digest, &session, length, body, &activity).await;
            let error = match failure.instead_of(sent) {
                Ok(next) => {
                    failures = 0;
                    session = next;
                    continue;
                }
                Err(error) => error,
            };
            failures += 1;
            if failures >= self.transport.policy.attempts || !is_resumable(&error) {
                return Err(error);
            }
            tracing::debug!(blob.digest = %digest, offset, %error, "resuming the upload");
            tokio::time::sleep(self.transport.policy.delay(failures)).await;
            match self.status(digest, &session).await? {
                Some(known) => {
                    if known.offset > offset {
                        failures = 0;
                    }
                    session = known;
                }
                None => return Err(error),
            }
        }
        self.close(digest, session).await
    }
}

/// True where the registry can be asked how far it is: after a break, after a token ran out,
/// and after it found that a chunk does not follow the last one.
fn is_resumable(error: &ClientError) -> bool {
    match error {
        ClientError::Unauthorized { .. } => true,
        ClientError::Refused { status, .. } => {
            error.is_transient()
                || matches!(
                    *status,
                    http::StatusCode::RANGE_NOT_SATISFIABLE | http::StatusCode::NOT_FOUND
                )
        }
        error => error.is_transient(),
    }
}

/// Why reading failed, for an HTTP client that would only tell that its body broke off.
#[derive(Clone, Default)]
struct ReadFailure(std::sync::Arc<std::sync::Mutex<Option<ClientError>>>);

impl ReadFailure {
    fn instead_of<T>(self, result: Result<T, ClientError>) -> Result<T, ClientError> {
        let failure = self
            .0
            .lock()
            .expect("nobody panics while holding it")
            .take();
        match failure {
            Some(failure) => Err(failure),
            None => result,
        }
    }
}

/// Returns a request body that says how far it is.
fn body(
    pieces: BoxStream<'static, Result<Bytes, ClientError>>,
    offset: u64,
    activity: &Activity,
    progress: &Progress,
) -> (reqwest::Body, ReadFailure) {
    let (activity, progress) = (activity.clone(), progress.clone());
    let failure = ReadFailure::default();
    let noted = failure.clone();
    let mut position = offset;
    progress.report(position);
    let pieces = pieces
        .inspect_ok(move |piece| {
            activity.touch();
            position += piece.len() as u64;
            progress.report(position);
        })
        .map_err(move |error| {
            let text = error.to_string();
            *noted.0.lock().expect("nobody panics while holding it") = Some(error);
            std::io::Error::other(text)
        });
    (reqwest::Body::wrap_stream(pieces), failure)
}
