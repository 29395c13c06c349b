//! The way of one blob's bytes: whole or in chunks, resumed after a break, and by the next program
//! where this one is killed. Used by `uploads`.

use bytes::Bytes;
use deploy_spec::Digest;
use futures::{TryStreamExt, stream::BoxStream};

use super::{
    ClientError, Content, Progress, Repository, retry::Activity, sessions::Session,
    unfinished::Unfinished,
};

/// Up to this size a blob goes in one request: it is sent again faster than it is asked about.
const WHOLE_MAX: u64 = 16 * 1024 * 1024;
/// The size of a chunk. Proxies in front of registries commonly take bodies of 100 MB at most.
const CHUNK: u64 = 64 * 1024 * 1024;

/// A blob that a repository is to get.
pub(super) struct Sending<'a> {
    pub(super) repository: &'a Repository,
    pub(super) digest: &'a Digest,
    pub(super) content: &'a Content,
    pub(super) progress: &'a Progress,
}

/// What became of a session.
enum Ended {
    /// The registry has the blob.
    Done,
    /// It does not go on with what it had, and said so.
    Lost(ClientError),
}

impl Sending<'_> {
    /// Sends it, and returns how many bytes of it had arrived in an upload of another time.
    pub(super) async fn send(&self) -> Result<u64, ClientError> {
        if self.content.size() <= WHOLE_MAX {
            self.anew(None).await?;
            return Ok(0);
        }
        let held = match &self.repository.transport.unfinished {
            Some(directory) => Unfinished::hold(directory, &self.name()).await,
            None => None,
        };
        let Some((unfinished, known)) = held else {
            self.anew(None).await?;
            return Ok(0);
        };
        let sent = self.go_on_or_anew(&unfinished, known).await;
        match &sent {
            // Whoever comes next has nothing to go on with.
            Ok(_) | Err(ClientError::Content { .. }) => unfinished.forget().await,
            Err(_) => {}
        }
        sent
    }

    /// What tells this upload from all others.
    fn name(&self) -> String {
        let url = self.repository.url("blobs/uploads/");
        format!("{url} {}", self.digest)
    }

    async fn go_on_or_anew(
        &self,
        unfinished: &Unfinished,
        known: Option<Session>,
    ) -> Result<u64, ClientError> {
        if let Some(mut session) = self.still_open(known).await {
            let before = session.offset;
            tracing::debug!(blob.digest = %self.digest, offset = before, "going on with an upload");
            match self.chunks(&mut session, Some(unfinished)).await {
                Ok(Ended::Done) => return Ok(before),
                Ok(Ended::Lost(error)) => {
                    tracing::debug!(blob.digest = %self.digest, %error, "uploading anew");
                }
                // What is there are other bytes, or the registry does not go on with them.
                Err(error @ ClientError::Refused { .. }) if !error.is_transient() => {
                    tracing::debug!(blob.digest = %self.digest, %error, "uploading anew");
                    self.repository.cancel(self.digest, session).await;
                }
                Err(error) => return Err(self.given_up(error, session).await),
            }
        }
        self.anew(Some(unfinished)).await?;
        Ok(0)
    }

    /// Returns how far a session of another time is; nothing where the registry knows it no more.
    async fn still_open(&self, known: Option<Session>) -> Option<Session> {
        let base = &self.repository.transport.base;
        // Whatever was written down, no other place is sent anything.
        let known = known.filter(|known| known.location.origin() == base.origin())?;
        let found = self.repository.status(self.digest, &known).await;
        let found = found.inspect_err(|error| {
            tracing::debug!(blob.digest = %self.digest, %error, "cannot go on with an upload");
        });
        let size = self.content.size();
        found.ok()?.filter(|found| found.offset <= size)
    }

    /// Sends all of it.
    async fn anew(&self, unfinished: Option<&Unfinished>) -> Result<(), ClientError> {
        let policy = &self.repository.transport.policy;
        let mut failures = 0;
        loop {
            let mut session = self.repository.begin(self.digest).await?;
            let ended = match self.content.size() {
                size if size <= WHOLE_MAX => self.whole(&session).await,
                _ => self.chunks(&mut session, unfinished).await,
            };
            failures += 1;
            match ended {
                Ok(Ended::Done) => return Ok(()),
                Ok(Ended::Lost(error)) if failures < policy.attempts => {
                    tracing::debug!(blob.digest = %self.digest, %error, "uploading anew");
                    tokio::time::sleep(policy.delay(failures)).await;
                }
                Ok(Ended::Lost(error)) | Err(error) => {
                    return Err(self.given_up(error, session).await);
                }
            }
            if self.repository.blob_size(self.digest).await?.is_some() {
                // Only the answer was lost.
                return Ok(());
            }
        }
    }

    /// Tells the registry where nothing will come any more.
    async fn given_up(&self, error: ClientError, session: Session) -> ClientError {
        if let ClientError::Content { .. } = error {
            self.repository.cancel(self.digest, session).await;
        }
        error
    }

    async fn whole(&self, session: &Session) -> Result<Ended, ClientError> {
        let size = self.content.size();
        let activity = Activity::new();
        let pieces = self.content.read(self.digest, 0, size).await?;
        let (body, failure) = body(pieces, 0, &activity, self.progress);
        let sent = (self.repository).put_whole(self.digest, session, size, body, &activity);
        match failure.instead_of(sent.await) {
            Ok(()) => Ok(Ended::Done),
            // However much of it arrived.
            Err(error) if is_resumable(&error) => Ok(Ended::Lost(error)),
            Err(error) => Err(error),
        }
    }

    /// Sends what the registry has not, and leaves in `session` how far it is.
    async fn chunks(
        &self,
        session: &mut Session,
        unfinished: Option<&Unfinished>,
    ) -> Result<Ended, ClientError> {
        let (repository, digest, size) = (self.repository, self.digest, self.content.size());
        let policy = &repository.transport.policy;
        let mut failures = 0;
        loop {
            if let Some(unfinished) = unfinished {
                unfinished.note(session).await;
            }
            let offset = session.offset;
            self.content.show(digest, offset.min(size)).await?;
            if offset >= size {
                repository.close(digest, session).await?;
                return Ok(Ended::Done);
            }
            let length = CHUNK.max(session.chunk_min).min(size - offset);
            let activity = Activity::new();
            let pieces = self.content.read(digest, offset, length).await?;
            let (body, failure) = body(pieces, offset, &activity, self.progress);
            let sent = repository.patch(digest, session, length, body, &activity);
            let error = match failure.instead_of(sent.await) {
                Ok(next) => {
                    failures = 0;
                    *session = next;
                    continue;
                }
                Err(error) => error,
            };
            failures += 1;
            if failures >= policy.attempts || !is_resumable(&error) {
                return Err(error);
            }
            tracing::debug!(blob.digest = %digest, offset, %error, "resuming the upload");
            tokio::time::sleep(policy.delay(failures)).await;
            match repository.status(digest, session).await {
                Ok(Some(known)) => {
                    if known.offset > offset {
                        failures = 0;
                    }
                    *session = known;
                }
                Ok(None) => return Ok(Ended::Lost(error)),
                // Tried again as it was; a wrong place is told.
                Err(error) if error.is_transient() => {}
                Err(error) => return Ok(Ended::Lost(error)),
            }
        }
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
