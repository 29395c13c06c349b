//! Uploads: blobs that come in one go or in chunks, over requests, processes and replicas. The
//! storage side of the `blobs/uploads` endpoints.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use deploy_spec::{Algorithm, Digest, Hasher, RepositoryName, range::ByteRange};
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;

use super::{
    Store,
    data::Progress,
    error::{BodyError, StoreError},
    ingest::{Ingest, Settled, Suspended},
    keys::{self, DataId},
    record,
    sessions::{Session, SessionRecord},
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
        let now = Timestamp::now();
        let record = SessionRecord {
            repository: repository.clone(),
            created: now,
            touched: now,
            algorithm: algorithm.to_string(),
            hash: BASE64.encode(Hasher::new(algorithm).state()),
            data: DataId::random(),
            progress: Progress::default(),
        };
        let payload = record::encode(&record, []);
        self.objects()
            .replace_relaxed(&keys::upload(&id), payload)
            .await?;
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
        check_order(&session, range)?;
        let suspended = session.suspended()?;
        let fresh = session.begin_data();
        let mut ingest = Ingest::resume(self.data(), session.record.data.clone(), suspended);
        let body = session.claim.guard(body);
        let taken = take_chunk(&mut ingest, range, body).await;
        let (end, suspended) = match taken {
            Ok(end) => (end, ingest.suspend().await),
            Err(error) => (Ok(()), Err(error)),
        };
        let updated = match suspended {
            Ok(suspended) => self.update_session(session, suspended).await,
            Err(error) => Err(error),
        };
        match updated {
            Ok(offset) => end
                .map(|()| Upload {
                    id: id.clone(),
                    offset,
                })
                .map_err(StoreError::from),
            Err(error) => {
                if fresh && !self.may_need(repository, id, ingest.data(), &error).await {
                    self.discard(ingest).await;
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
        let mut session = self.claim_session(repository, id).await?;
        check_order(&session, range)?;
        let mut suspended = session.suspended()?;
        let fresh = session.begin_data();
        if fresh {
            // Nothing is hashed yet either.
            suspended.hasher = Hasher::new(digest.algorithm());
        }
        let mut ingest = Ingest::resume(self.data(), session.record.data.clone(), suspended);
        let body = session.claim.guard(body);
        let settled = match self.take_whole(&mut ingest, range, body, digest).await {
            Ok(settled) => settled,
            Err(error) => {
                let useless = matches!(error, StoreError::DigestMismatch { .. });
                if useless {
                    self.objects().remove(&keys::upload(id)).await?;
                }
                if useless || fresh {
                    self.discard(ingest).await;
                }
                return Err(error);
            }
        };
        if fresh {
            self.publish(repository, digest, settled).await?;
            self.forget_session(id).await;
        } else {
            // The session goes first, and durably: were it to live on, its expiry would take
            // data with it that is published.
            self.objects().remove(&keys::upload(id)).await?;
            self.publish(repository, digest, settled).await?;
        }
        Ok(())
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
        let mut ingest = Ingest::resume(self.data(), DataId::random(), suspended);
        let settled = self.take_whole(&mut ingest, None, body, digest).await;
        match settled {
            Ok(settled) => self.publish(repository, digest, settled).await,
            Err(error) => {
                self.discard(ingest).await;
                Err(error)
            }
        }
    }

    /// Returns whether, after the error, the session's record may speak of this data.
    async fn may_need(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        data: &DataId,
        error: &StoreError,
    ) -> bool {
        if matches!(error, StoreError::Backend(_)) {
            return true;
        }
        let session = self.read_session(repository, id).await;
        session.is_ok_and(|(record, _, _)| record.data == *data)
    }

    /// Takes the last chunk in, and checks what the whole has become.
    async fn take_whole(
        &self,
        ingest: &mut Ingest,
        range: Option<ByteRange>,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Unpin,
        digest: &Digest,
    ) -> Result<Settled, StoreError> {
        take_chunk(ingest, range, body).await??;
        let mut settled = ingest.settle(digest).await?;
        if settled.digest.algorithm() != digest.algorithm() {
            settled.digest = self.hash_data(&settled, digest).await?;
        }
        if settled.digest != *digest {
            return Err(StoreError::DigestMismatch {
                expected: digest.clone(),
                actual: settled.digest,
            });
        }
        Ok(settled)
    }

    /// Removes what an attempt wrote; failing costs room, nothing else.
    async fn discard(&self, ingest: Ingest) {
        let (data, progress) = ingest.abandon();
        if progress == Progress::default() {
            return;
        }
        if let Err(error) = self.data().discard(&data.key(), &progress).await {
            tracing::warn!(%error, "cannot remove data of an upload that failed");
        }
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
    ingest: &mut Ingest,
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
