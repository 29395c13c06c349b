//! Sessions of uploads: the object that holds one, who may change it, and when it ends. Used by
//! `uploads`.
//!
//! Everything that a session is stands in one object: where it is, the state of its hash, how
//! far the data has got, and a tail of bytes not written yet. It is changed by conditional
//! writes, and never ahead of the data that it speaks of.
//!
//! A session is *open* until somebody *closes* it, and *ended* for the instant between that
//! decision and its removal. Data that it names is removed only by who has ended an open one:
//! whoever closes it may be about to publish that data, in another process. So one that is
//! being closed stays so until its record goes: nobody may take it for one that was open.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use deploy_spec::{Algorithm, Hasher, RepositoryName};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::{
    Store,
    claims::Claim,
    data::Progress,
    error::{StoreError, causes},
    fence::Fence,
    ingest::Suspended,
    keys::{self, DataId},
    objects::Version,
    record,
    upload_id::UploadId,
};

/// Objects that are removed at the same time.
const REMOVED_AT_ONCE: usize = 8;
/// Nothing is appended to an upload for so long after somebody began to close it.
const CLOSING: SignedDuration = SignedDuration::from_secs(60);

/// Where the store has just failed, and nobody would come back to try again.
const ATTEMPTS: usize = 3;

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
    #[serde(default, skip_serializing_if = "SessionState::is_open")]
    pub(super) state: SessionState,
    /// A random word of who wrote this, so that no two states of a session are the same bytes.
    #[serde(default)]
    pub(super) writer: String,
}

/// What becomes of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SessionState {
    /// It takes chunks.
    #[default]
    Open,
    /// Somebody publishes what it names.
    Closing,
    /// Somebody removes what it names.
    Ended,
}

impl SessionState {
    fn is_open(&self) -> bool {
        *self == Self::Open
    }
}

impl SessionRecord {
    /// Returns the record of a session that holds nothing yet.
    pub(super) fn new(repository: &RepositoryName, algorithm: Algorithm, now: Timestamp) -> Self {
        Self {
            repository: repository.clone(),
            created: now,
            touched: now,
            algorithm: algorithm.to_string(),
            hash: BASE64.encode(Hasher::new(algorithm).state()),
            data: DataId::random(),
            progress: Progress::default(),
            state: SessionState::Open,
            writer: word(),
        }
    }

    /// Returns the record as we write it now.
    fn as_ours(&self, state: SessionState, now: Timestamp) -> Self {
        Self {
            touched: now,
            state,
            writer: word(),
            ..self.clone()
        }
    }
}

fn word() -> String {
    format!("{:016x}", rand::rng().random::<u64>())
}

/// What upkeep must know of a session.
pub(super) struct SessionOutline {
    /// When bytes last arrived.
    pub(super) touched: Timestamp,
    /// How many there are.
    pub(super) bytes: u64,
    /// Where they are.
    pub(super) data: Vec<DataId>,
}

/// A session as it was before somebody tried to write to it.
pub(super) struct Unwritten {
    id: UploadId,
    record: SessionRecord,
    tail: Bytes,
    version: Version,
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
    /// Returns what it is now.
    pub(super) fn unwritten(&self) -> Unwritten {
        Unwritten {
            id: self.id.clone(),
            record: self.record.clone(),
            tail: self.tail.clone(),
            version: self.version.clone(),
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.record.progress.length + self.tail.len() as u64
    }

    /// Returns where to write. Where nothing binds the blob to a place, that is one that no
    /// record names so far: an attempt that fails can be removed, one that was overtaken harms
    /// nobody, and a session that outlives its blob does no harm to that.
    pub(super) fn target(&self) -> DataId {
        match self.record.progress.is_bound() {
            true => self.record.data.clone(),
            false => DataId::random(),
        }
    }

    /// Returns what keeps other writers out, to be raised for that state.
    pub(super) fn fence(&self, store: &Store, state: SessionState) -> Fence {
        let record = record::encode(
            &self.record.as_ours(state, store.now()),
            [self.tail.clone()],
        );
        let key = keys::upload(&self.id);
        Fence::new(store.objects().clone(), key, record, self.version.clone())
    }

    /// Refuses to add to an upload that somebody is closing.
    pub(super) fn check_open(&self, now: Timestamp) -> Result<(), StoreError> {
        let since = now.duration_since(self.record.touched);
        match self.record.state {
            SessionState::Closing if since < CLOSING => Err(StoreError::UploadBusy),
            _ => Ok(()),
        }
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
            Ok((record, tail))
                if record.repository == *repository && record.state != SessionState::Ended =>
            {
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

    /// Writes down how far a session has got and where, and returns its offset.
    ///
    /// # Errors
    /// [`StoreError::UploadBusy`] where another writer was faster. What it wrote stands.
    pub(super) async fn update_session(
        &self,
        session: Session,
        data: DataId,
        suspended: Suspended,
    ) -> Result<u64, StoreError> {
        let Suspended {
            progress,
            hasher,
            tail,
        } = suspended;
        let offset = progress.length + tail.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let record = SessionRecord {
            hash: BASE64.encode(hasher.state()),
            data,
            progress,
            ..session.record.as_ours(SessionState::Open, self.now())
        };
        let key = keys::upload(&session.id);
        let payload = record::encode(&record, tail);
        match self
            .objects()
            .update(&key, payload, session.version)
            .await?
        {
            true => Ok(offset),
            false => Err(StoreError::UploadBusy),
        }
    }

    /// Lets a session take chunks again after somebody failed to close it.
    pub(super) async fn reopen_session(&self, session: Session) {
        let record = session.record.as_ours(SessionState::Open, self.now());
        let payload = record::encode(&record, [session.tail]);
        let key = keys::upload(&session.id);
        if let Err(error) = self.objects().update(&key, payload, session.version).await {
            // It can still be closed; and be added to in a while.
            tracing::warn!(cause = causes(&error), upload.id = %session.id, "cannot reopen an upload");
        }
    }

    /// Removes a session that holds no data; one that stays expires.
    pub(super) async fn forget_session(&self, id: &UploadId) {
        if let Err(error) = self.data().forget(&keys::upload(id)).await {
            tracing::warn!(%error, upload.id = %id, "cannot remove a finished upload");
        }
    }

    /// Removes pieces that nothing leads to any more.
    pub(super) async fn forget_pieces(&self, pieces: Vec<DataId>) {
        futures::stream::iter(pieces)
            .for_each_concurrent(REMOVED_AT_ONCE, |piece| async move {
                self.discard_data(&piece).await;
            })
            .await;
    }

    /// Ends a session, and removes what it names unless somebody may be publishing that: then
    /// it is for the collector to judge.
    ///
    /// # Errors
    /// [`StoreError::UploadBusy`] where another writer was faster.
    pub(super) async fn remove_session(&self, session: Session) -> Result<(), StoreError> {
        let key = keys::upload(&session.id);
        let Session {
            record,
            tail,
            version,
            ..
        } = session;
        let names_data = record.progress.length > 0;
        if self.is_shared() && names_data {
            let (ended, tail) = match record.state {
                SessionState::Open | SessionState::Ended => (SessionState::Ended, None),
                SessionState::Closing => (SessionState::Closing, Some(tail)),
            };
            let ended = record::encode(&record.as_ours(ended, self.now()), tail);
            if !self.objects().update(&key, ended, version).await? {
                return Err(StoreError::UploadBusy);
            }
        }
        if self.is_shared() {
            // While the record is there, another attempt finds what is left to remove.
            self.discard_session_data(&record).await?;
            self.objects().remove(&key).await
        } else {
            self.objects().remove(&key).await?;
            self.discard_session_data(&record).await
        }
    }

    async fn discard_session_data(&self, record: &SessionRecord) -> Result<(), StoreError> {
        let key = record.data.key();
        match record.state {
            _ if record.progress.length == 0 => Ok(()),
            // Whoever closed it fails where it is not complete yet, or has what it published.
            SessionState::Closing => self.data().release(&key, &record.progress).await,
            SessionState::Open | SessionState::Ended => {
                self.data().discard(&key, &record.progress).await
            }
        }
    }

    /// Writes down what nobody would find who is not told of it, as a session that has ended:
    /// when that expires, it is removed.
    pub(super) async fn leave_to_expiry(
        &self,
        repository: &RepositoryName,
        data: DataId,
        progress: Progress,
    ) {
        let record = SessionRecord {
            data,
            progress,
            state: SessionState::Ended,
            ..SessionRecord::new(repository, Algorithm::Sha256, self.now())
        };
        let key = keys::upload(&UploadId::random());
        for _ in 0..ATTEMPTS {
            let written = self.objects().create(&key, record::encode(&record, []));
            match written.await {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(
                        cause = causes(&error),
                        "cannot write down what is left of an upload"
                    )
                }
            }
        }
    }

    /// Makes sure that a session never comes to be what an attempt to write it down may have
    /// made of it; false where that cannot be known.
    pub(super) async fn revoke_update(&self, session: &Unwritten) -> bool {
        let record = session.record.as_ours(session.record.state, self.now());
        let payload = record::encode(&record, [session.tail.clone()]);
        let key = keys::upload(&session.id);
        for _ in 0..ATTEMPTS {
            let (payload, version) = (payload.clone(), session.version.clone());
            if let Ok(revoked) = self.objects().update(&key, payload, version).await {
                return revoked;
            }
        }
        false
    }

    /// Returns what upkeep must know of the session at the key; nothing where there is none.
    pub(super) async fn outline_session(
        &self,
        key: &object_store::path::Path,
    ) -> Result<Option<SessionOutline>, StoreError> {
        let Some(object) = self.objects().read(key).await? else {
            return Ok(None);
        };
        let Ok((record, tail)) = record::decode::<SessionRecord>(key, &object.bytes) else {
            return Ok(None);
        };
        Ok(Some(SessionOutline {
            touched: record.touched,
            bytes: record.progress.length + tail.len() as u64,
            data: (record.progress.parked.into_iter())
                .map(|piece| piece.data)
                .chain([record.data])
                .collect(),
        }))
    }

    /// Ends all uploads that nothing has arrived for since `before`, and returns how many.
    pub async fn expire_uploads(&self, before: Timestamp) -> Result<usize, StoreError> {
        let mut expired = 0;
        let mut listing = self.objects().list(&keys::uploads(), None);
        while let Some(key) = listing.try_next().await? {
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
                id: id.clone(),
                record,
                tail,
                version,
                claim,
            };
            match self.remove_session(session).await {
                Ok(()) => expired += 1,
                // Somebody went on with it after all.
                Err(StoreError::UploadBusy) => {}
                // Its record stays, and with it what it names is found by the next round.
                Err(error) => {
                    tracing::warn!(cause = causes(&error), upload.id = %id, "cannot end an upload");
                }
            }
        }
        Ok(expired)
    }
}
