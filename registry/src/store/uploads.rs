//! Uploads: sessions that outlive requests, processes and replicas. The storage side of the
//! `blobs/uploads` endpoints.
//!
//! Everything that a session is stands in one object: where it is, the state of its hash, how
//! far the data has got, and a tail of bytes not written yet. It is changed by conditional
//! writes, and never ahead of the data that it speaks of.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use deploy_spec::{Algorithm, Digest, Hasher, RepositoryName, range::ByteRange};
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::{
    Store,
    claims::Claim,
    data::Progress,
    error::{BodyError, StoreError},
    ingest::{Ingest, Settled, Suspended},
    keys::{self, DataId},
    objects::Version,
    record,
};

/// Names an upload: a random UUID, which nobody guesses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Box<str>);

impl UploadId {
    /// Returns an id that was never given out (RFC 9562, version 4).
    fn random() -> Self {
        let mut bits: u128 = rand::rng().random();
        bits = (bits & !(0xf << 76)) | (0x4 << 76);
        bits = (bits & !(0x3 << 62)) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        let groups = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        Self(groups.join("-").into())
    }
}

/// A text that is no id of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an upload")]
pub struct UploadIdError;

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, UploadIdError> {
        let fits = text.len() == 36
            && text.bytes().enumerate().all(|(index, byte)| match index {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        fits.then(|| Self(text.into())).ok_or(UploadIdError)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// An upload as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// How many bytes it holds.
    pub offset: u64,
}

/// The header of a session's object; the tail follows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SessionRecord {
    repository: RepositoryName,
    created: Timestamp,
    /// When bytes last arrived.
    touched: Timestamp,
    /// What is computed while the bytes arrive: `sha256`, unless the client announced another.
    algorithm: String,
    /// State of the hash behind the data, before the tail, in base 64.
    hash: String,
    data: DataId,
    progress: Progress,
}

/// A session that this request may write to.
struct Session {
    id: UploadId,
    record: SessionRecord,
    tail: Bytes,
    version: Version,
    claim: Claim,
}

impl Session {
    fn offset(&self) -> u64 {
        self.record.progress.length + self.tail.len() as u64
    }

    /// Returns the blob at rest, to go on with.
    fn suspended(&self) -> Result<Suspended, StoreError> {
        let damaged = |reason: String| StoreError::Damaged {
            key: keys::upload(&self.id).to_string(),
            reason,
        };
        let algorithm: Algorithm = (self.record.algorithm.parse())
            .map_err(|error: deploy_spec::digest::DigestError| damaged(error.to_string()))?;
        let state = BASE64
            .decode(&self.record.hash)
            .map_err(|error| damaged(error.to_string()))?;
        Ok(Suspended {
            progress: self.record.progress.clone(),
            hasher: Hasher::resume(algorithm, &state)
                .map_err(|error| damaged(error.to_string()))?,
            tail: Some(self.tail.clone())
                .filter(|tail| !tail.is_empty())
                .into_iter()
                .collect(),
        })
    }
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

    async fn read_session(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<(SessionRecord, Bytes, Version), StoreError> {
        let unknown = || StoreError::UploadUnknown(id.clone());
        let key = keys::upload(id);
        let object = self.objects().read(&key).await?.ok_or_else(unknown)?;
        match record::decode::<SessionRecord>(&key, &object.bytes) {
            Ok((record, tail)) if record.repository == *repository => {
                Ok((record, tail, object.version))
            }
            Ok(_) => Err(unknown()),
            // What a loss of power left of a session that held nothing.
            Err(_) if object.bytes.is_empty() => Err(unknown()),
            Err(error) => Err(error),
        }
    }

    async fn claim_session(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Session, StoreError> {
        let claim = self.claims().take(id).await.ok_or(StoreError::UploadBusy)?;
        let (record, tail, version) = self.read_session(repository, id).await?;
        Ok(Session {
            id: id.clone(),
            record,
            tail,
            version,
            claim,
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
        let mut ingest = Ingest::resume(
            self.data(),
            session.record.data.clone(),
            session.suspended()?,
        );
        let mut received = 0;
        let body = session.claim.guard(body);
        let end = ingest.take(counted(body, range, &mut received)).await?;
        match (&end, range) {
            (Ok(()), Some(range)) if received != range.length() => {
                return Err(length_mismatch(range, received));
            }
            (Err(_), Some(range)) if received > range.length() => {
                return Err(length_mismatch(range, received));
            }
            _ => {}
        }
        let Suspended {
            progress,
            hasher,
            tail,
        } = ingest.suspend().await?;
        session.record.touched = Timestamp::now();
        session.record.hash = BASE64.encode(hasher.state());
        session.record.progress = progress;
        let offset = session.record.progress.length
            + tail.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let payload = record::encode(&session.record, tail);
        if !self
            .objects()
            .update(&keys::upload(id), payload, session.version)
            .await?
        {
            // Another replica was faster. What it wrote stands.
            return Err(StoreError::UploadBusy);
        }
        end?;
        Ok(Upload {
            id: id.clone(),
            offset,
        })
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
        let fresh = session.record.progress.length == 0;
        if fresh {
            // No data is written yet: compute what is needed, under a name that the session
            // does not hold. Should it outlive its blob, nothing that it does harms that.
            suspended.hasher = Hasher::new(digest.algorithm());
            session.record.data = DataId::random();
        }
        let mut ingest = Ingest::resume(self.data(), session.record.data.clone(), suspended);
        let mut received = 0;
        let body = session.claim.guard(body);
        let end = ingest.take(counted(body, range, &mut received)).await;
        let end = match end {
            Ok(end) => end,
            Err(error) => {
                if fresh {
                    self.discard(ingest).await;
                }
                return Err(error);
            }
        };
        if let Some(range) = range.filter(|range| range.length() != received)
            && (end.is_ok() || received > range.length())
        {
            if fresh {
                self.discard(ingest).await;
            }
            return Err(length_mismatch(range, received));
        }
        if let Err(error) = end {
            if fresh {
                self.discard(ingest).await;
            }
            return Err(error.into());
        }
        let settled = match self.settle(&mut ingest, digest).await {
            Ok(settled) => settled,
            Err(error) => {
                if matches!(error, StoreError::DigestMismatch { .. }) {
                    self.objects().remove(&keys::upload(id)).await?;
                    self.discard(ingest).await;
                } else if fresh {
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
        let settled = match ingest.take(body).await {
            Ok(Ok(())) => self.settle(&mut ingest, digest).await,
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(error),
        };
        match settled {
            Ok(settled) => self.publish(repository, digest, settled).await,
            Err(error) => {
                self.discard(ingest).await;
                Err(error)
            }
        }
    }

    async fn settle(&self, ingest: &mut Ingest, digest: &Digest) -> Result<Settled, StoreError> {
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

    /// Removes a session that holds no data; one that stays expires.
    async fn forget_session(&self, id: &UploadId) {
        if let Err(error) = self.data().forget(&keys::upload(id)).await {
            tracing::warn!(%error, upload.id = %id, "cannot remove a finished upload");
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

    async fn remove_session(&self, session: Session) -> Result<(), StoreError> {
        self.objects().remove(&keys::upload(&session.id)).await?;
        let Progress { length, .. } = session.record.progress;
        if length > 0 {
            let key = session.record.data.key();
            self.data().discard(&key, &session.record.progress).await?;
        }
        Ok(())
    }

    /// Ends all uploads that nothing has arrived for since `before`, and returns how many.
    pub async fn expire_uploads(&self, before: Timestamp) -> Result<usize, StoreError> {
        let mut expired = 0;
        let mut listing = self.objects().list(&keys::uploads(), None);
        while let Some(key) = listing.next().await {
            let key = key?;
            let Some(id) = keys::upload_of(&key) else {
                continue;
            };
            let Some(claim) = self.claims().take_unheld(&id) else {
                continue;
            };
            let Some(object) = self.objects().read(&key).await? else {
                continue;
            };
            let Ok((record, tail)) = record::decode::<SessionRecord>(&key, &object.bytes) else {
                // Nobody can go on with it, and it names no data to remove.
                self.objects().remove(&key).await?;
                continue;
            };
            if record.touched >= before {
                continue;
            }
            let version = object.version;
            let session = Session {
                id,
                record,
                tail,
                version,
                claim,
            };
            self.remove_session(session).await?;
            expired += 1;
        }
        Ok(expired)
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

fn length_mismatch(range: ByteRange, received: u64) -> StoreError {
    StoreError::LengthMismatch {
        announced: range.length(),
        received,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_uuids() {
        let id = UploadId::random();
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert_eq!(id.to_string().as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.to_string().as_bytes()[19]));
        assert_ne!(id, UploadId::random());
        for text in [
            "",
            "../../etc/passwd",
            "00000000-0000-4000-8000-00000000000G",
        ] {
            assert_eq!(text.parse::<UploadId>(), Err(UploadIdError));
        }
    }
}
