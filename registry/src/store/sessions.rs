//! Sessions of uploads: the object that holds one, who may change it, and when it ends. Used by
//! `uploads`.
//!
//! Everything that a session is stands in one object: where it is, the state of its hash, how
//! far the data has got, and a tail of bytes not written yet. It is changed by conditional
//! writes, and never ahead of the data that it speaks of.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use deploy_spec::{Algorithm, Hasher, RepositoryName};
use futures::StreamExt as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Store,
    claims::Claim,
    data::Progress,
    error::StoreError,
    ingest::Suspended,
    keys::{self, DataId},
    objects::Version,
    record,
    upload_id::UploadId,
};

/// The header of a session's object; the tail follows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SessionRecord {
    pub(super) repository: RepositoryName,
    pub(super) created: Timestamp,
    /// When bytes last arrived.
    pub(super) touched: Timestamp,
    /// What is computed while the bytes arrive: `sha256`, unless the client announced another.
    pub(super) algorithm: String,
    /// State of the hash behind the data, before the tail, in base 64.
    pub(super) hash: String,
    pub(super) data: DataId,
    pub(super) progress: Progress,
}

/// A session that this request may write to.
pub(super) struct Session {
    pub(super) id: UploadId,
    pub(super) record: SessionRecord,
    pub(super) tail: Bytes,
    pub(super) version: Version,
    pub(super) claim: Claim,
}

impl Session {
    pub(super) fn offset(&self) -> u64 {
        self.record.progress.length + self.tail.len() as u64
    }

    /// Returns whether no data is written yet; then gives what will be a name that no record
    /// holds so far. An attempt that fails can thereby be removed, and a session that outlives
    /// its blob does no harm to that.
    pub(super) fn begin_data(&mut self) -> bool {
        let fresh = self.record.progress.length == 0;
        if fresh {
            self.record.data = DataId::random();
        }
        fresh
    }

    /// Returns the blob at rest, to go on with.
    pub(super) fn suspended(&self) -> Result<Suspended, StoreError> {
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
    pub(super) async fn read_session(
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

    pub(super) async fn claim_session(
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

    /// Writes down how far a session has got, and returns its offset.
    ///
    /// # Errors
    /// [`StoreError::UploadBusy`] where another replica was faster. What it wrote stands.
    pub(super) async fn update_session(
        &self,
        mut session: Session,
        suspended: Suspended,
    ) -> Result<u64, StoreError> {
        let Suspended {
            progress,
            hasher,
            tail,
        } = suspended;
        let offset = progress.length + tail.iter().map(|piece| piece.len() as u64).sum::<u64>();
        session.record.touched = Timestamp::now();
        session.record.hash = BASE64.encode(hasher.state());
        session.record.progress = progress;
        let payload = record::encode(&session.record, tail);
        let key = keys::upload(&session.id);
        match self
            .objects()
            .update(&key, payload, session.version)
            .await?
        {
            true => Ok(offset),
            false => Err(StoreError::UploadBusy),
        }
    }

    /// Removes a session that holds no data; one that stays expires.
    pub(super) async fn forget_session(&self, id: &UploadId) {
        if let Err(error) = self.data().forget(&keys::upload(id)).await {
            tracing::warn!(%error, upload.id = %id, "cannot remove a finished upload");
        }
    }

    pub(super) async fn remove_session(&self, session: Session) -> Result<(), StoreError> {
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
