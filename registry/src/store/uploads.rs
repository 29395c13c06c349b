//! Uploads: blobs that come in one go or in chunks, over requests, processes and replicas. The
//! storage side of the `blobs/uploads` endpoints.

use bytes::Bytes;
use deploy_spec::{Algorithm, Digest, Hasher, RepositoryName, range::ByteRange};
use futures::{Stream, StreamExt as _};

use super::{
    Store,
    blobs::Whole,
    data::Progress,
    error::{BodyError, StoreError, causes},
    ingest::{Ingest, Suspended},
    keys::{self, DataId},
    record,
    sessions::{Session, SessionRecord, SessionState},
    upload_id::UploadId,
};

/// An upload as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// How many bytes it holds.
    pub offset: u64,
}

impl Store {
    /// Begins an upload, which computes a digest by `algorithm` while its bytes arrive.
    ///
    /// Nothing is lost with a session that holds nothing: its record may not survive a loss of
    /// power, and the client begins anew.
    pub async fn start_upload(
        &self,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Upload, StoreError> {
        let id = UploadId::random();
        let record = SessionRecord::new(repository, algorithm, self.now());
        let (key, payload) = (keys::upload(&id), record::encode(&record, []));
        match self.is_shared() {
            // Never over what is there: a request that seemed lost and was sent again may
            // arrive after all, when the session holds bytes.
            true => self.objects().create(&key, payload).await.map(drop)?,
            false => self.objects().replace_relaxed(&key, payload).await?,
        }
        Ok(Upload { id, offset: 0 })
    }

    /// Returns how far an upload has got.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] where it is not one of this repository.
    pub async fn upload(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Upload, StoreError> {
        let (record, tail, _) = self.read_session(repository, id).await?;
        Ok(Upload {
            id: id.clone(),
            offset: record.progress.length + tail.len() as u64,
        })
    }

    /// Appends a chunk to an upload. On return it is durable. `range` is the chunk's place
    /// where the client says it; without one, the chunk stands behind what is there.
    ///
    /// What arrived before the body broke off stays, unless a range announced more.
    ///
    /// # Errors
    /// [`StoreError::OutOfOrder`], [`StoreError::LengthMismatch`] and
    /// [`StoreError::UploadBusy`] leave the upload as it was.
    pub async fn append_upload(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        range: Option<ByteRange>,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Unpin + Send,
    ) -> Result<Upload, StoreError> {
        let mut session = self.claim_session(repository, id).await?;
        session.check_open(self.now())?;
        check_order(&session, range)?;
        let data = session.target();
        // Data under a name of our own is nobody else's to write to.
        let contended = self.is_shared() && session.record.progress.is_bound();
        let fence = contended.then(|| session.fence(self, SessionState::Open));
        let mut ingest = Ingest::resume(self.data(), data.clone(), session.suspended()?, fence);
        let body = session.claim.guard(body);
        let taken = match take_chunk(&mut ingest, range, body).await {
            Ok(end) => ingest.suspend().await.map(|suspended| (end, suspended)),
            Err(error) => Err(error),
        };
        let (end, suspended) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                self.abandon(repository, &mut ingest).await;
                return Err(overtaken(error, id));
            }
        };
        if let Some(version) = ingest.raised() {
            session.version = version;
        }
        let before = session.unwritten();
        match self.update_session(session, data, suspended).await {
            Ok(offset) => {
                self.forget_pieces(ingest.merged()).await;
                let id = id.clone();
                end.map(|()| Upload { id, offset }).map_err(Into::into)
            }
            Err(error) => {
                // After a failure below us, the session may have come to name the data.
                if !matches!(error, StoreError::Backend(_)) || self.revoke_update(&before).await {
                    self.abandon(repository, &mut ingest).await;
                }
                Err(error)
            }
        }
    }

    /// Ends an upload, with a last chunk, and publishes it in the repository. On return the
    /// blob is durable and visible.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] ends the upload too: its bytes are of no use.
    /// [`StoreError::OutOfOrder`], [`StoreError::LengthMismatch`], [`StoreError::UploadBusy`]
    /// and an error of the body leave it as it was.
    pub async fn finish_upload(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        range: Option<ByteRange>,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Unpin + Send,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let session = self.claim_session(repository, id).await?;
        check_order(&session, range)?;
        let mut suspended = session.suspended()?;
        let names_data = session.record.progress.length > 0;
        if !names_data {
            // Nothing is hashed yet either.
            suspended.hasher = Hasher::new(digest.algorithm());
        }
        let fenced = self.is_shared() && names_data;
        let fence = fenced.then(|| session.fence(self, SessionState::Closing));
        let mut ingest = Ingest::resume(self.data(), session.target(), suspended, fence);
        let body = session.claim.guard(body);
        let whole = match self
            .take_whole(repository, &mut ingest, range, body, digest)
            .await
        {
            Ok(whole) => whole,
            Err(error) => {
                self.end_attempt(session, ingest, &error).await;
                return Err(overtaken(error, id));
            }
        };
        if fenced {
            // The session goes last, so that a closing that failed can be done again: while
            // somebody closes it, nobody removes the data.
            if let Some(fence) = ingest.fence() {
                fence.check().await?;
            }
            self.publish(repository, digest, whole).await?;
            self.forget_session(id).await;
            self.forget_pieces(ingest.merged()).await;
        } else if names_data {
            // The session goes first, and durably: were it to live on, its expiry would take
            // data with it that is published.
            self.objects().remove(&keys::upload(id)).await?;
            self.publish(repository, digest, whole).await?;
        } else {
            self.publish(repository, digest, whole).await?;
            self.forget_session(id).await;
        }
        Ok(())
    }

    /// Cleans up after an attempt to close an upload: what is of the wrong digest ends with it,
    /// anything else may be tried again.
    async fn end_attempt(&self, mut session: Session, mut ingest: Ingest<'_>, error: &StoreError) {
        let raised = ingest.raised();
        self.abandon(&session.record.repository, &mut ingest).await;
        let closed_before = session.record.state == SessionState::Closing;
        let is_raised = raised.is_some();
        if let Some(version) = raised {
            session.version = version;
        }
        match error {
            // Somebody else closes it too, and may know better.
            StoreError::DigestMismatch { .. } if closed_before => {}
            StoreError::DigestMismatch { .. } => {
                let id = session.id.clone();
                if let Err(error) = self.remove_session(session).await {
                    tracing::warn!(cause = causes(&error), upload.id = %id, "cannot remove a failed upload");
                }
            }
            _ if is_raised && !closed_before => self.reopen_session(session).await,
            _ => {}
        }
    }

    /// Stores a blob in one go. On return it is durable and visible.
    ///
    /// # Errors
    /// As [`Store::finish_upload`]; nothing stays of it.
    pub async fn put_blob(
        &self,
        repository: &RepositoryName,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Unpin + Send,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let suspended = Suspended {
            progress: Progress::default(),
            hasher: Hasher::new(digest.algorithm()),
            tail: Vec::new(),
        };
        let mut ingest = Ingest::resume(self.data(), DataId::random(), suspended, None);
        match self
            .take_whole(repository, &mut ingest, None, body, digest)
            .await
        {
            Ok(whole) => self.publish(repository, digest, whole).await,
            Err(error) => {
                self.abandon(repository, &mut ingest).await;
                Err(error)
            }
        }
    }

    /// Removes what an attempt has written and nothing speaks of. What the store does not take
    /// back now is asked for again later.
    async fn abandon(&self, repository: &RepositoryName, ingest: &mut Ingest<'_>) {
        if let Some((data, progress)) = ingest.abandon().await {
            self.leave_to_expiry(repository, data, progress).await;
        }
    }

    /// Takes the last chunk in, and checks what the whole has become.
    async fn take_whole(
        &self,
        repository: &RepositoryName,
        ingest: &mut Ingest<'_>,
        range: Option<ByteRange>,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Unpin,
        digest: &Digest,
    ) -> Result<Whole, StoreError> {
        take_chunk(ingest, range, body).await??;
        let (since, member) = (self.now(), self.add_member(repository, digest));
        let mut settled = ingest.settle(digest, member).await?;
        if !settled.is_ours || settled.digest.algorithm() != digest.algorithm() {
            settled.digest = self.hash_data(&settled, digest).await?;
        }
        if settled.digest != *digest {
            return Err(StoreError::DigestMismatch {
                expected: digest.clone(),
                actual: settled.digest,
            });
        }
        Ok(Whole { settled, since })
    }

    /// Ends an upload and removes what arrived.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`], [`StoreError::UploadBusy`].
    pub async fn cancel_upload(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<(), StoreError> {
        let session = self.claim_session(repository, id).await?;
        self.remove_session(session).await
    }
}

/// Parts that have no upload any more: another writer closed or ended it.
fn overtaken(error: StoreError, id: &UploadId) -> StoreError {
    match error {
        StoreError::Backend(object_store::Error::NotFound { .. }) => {
            StoreError::UploadUnknown(id.clone())
        }
        error => error,
    }
}

fn check_order(session: &Session, range: Option<ByteRange>) -> Result<(), StoreError> {
    let offset = session.offset();
    match range {
        Some(range) if range.first != offset => Err(StoreError::OutOfOrder {
            offset,
            given: range.first,
        }),
        _ => Ok(()),
    }
}

/// Takes a chunk in, to its end or to where it breaks off.
///
/// # Errors
/// [`StoreError::LengthMismatch`] where it is not as long as its range says.
async fn take_chunk(
    ingest: &mut Ingest<'_>,
    range: Option<ByteRange>,
    body: impl Stream<Item = Result<Bytes, BodyError>> + Unpin,
) -> Result<Result<(), BodyError>, StoreError> {
    let mut received = 0;
    let end = ingest.take(counted(body, range, &mut received)).await?;
    let announced = range.map_or(received, ByteRange::length);
    if received > announced || (end.is_ok() && received < announced) {
        return Err(StoreError::LengthMismatch {
            announced,
            received,
        });
    }
    Ok(end)
}

/// Counts what passes, and ends the body where it is longer than its range says.
fn counted<'a>(
    body: impl Stream<Item = Result<Bytes, BodyError>> + Unpin + 'a,
    range: Option<ByteRange>,
    received: &'a mut u64,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Unpin + 'a {
    let limit = range.map_or(u64::MAX, ByteRange::length);
    body.map(move |piece| {
        let piece = piece?;
        *received += piece.len() as u64;
        match *received > limit {
            true => Err(BodyError::Broken("longer than its range".to_owned())),
            false => Ok(piece),
        }
    })
}
