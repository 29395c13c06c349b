//! Blobs: publishing, membership in repositories, reading, deleting. The storage side of the
//! `blobs` endpoints; `uploads` publishes through [`Store::publish`].
//!
//! A blob is stored once for the whole registry, and is visible in the repositories that have
//! a marker for it.

use std::ops::Range;

use bytes::Bytes;
use deploy_spec::{Digest, RepositoryName};
use futures::{StreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{
    Store,
    error::StoreError,
    ingest::{Place, Settled},
    keys::{self, DataId},
    objects::Content,
    record,
    state::{Collectable, Established, Found, RELY, Seen, Standing, State},
};

/// The header of the object that publishes a blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BlobRecord {
    /// Size of the blob in bytes.
    pub(super) size: u64,
    /// Where the bytes are; absent where they follow this header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<DataId>,
    /// When it was published.
    pub(super) created: Timestamp,
    #[serde(default, skip_serializing_if = "State::is_live")]
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

impl Collectable for BlobRecord {
    fn standing(&self) -> Standing {
        Standing {
            state: self.state,
            since: self.since,
        }
    }

    fn set_standing(&mut self, standing: Standing) {
        (self.state, self.since) = (standing.state, standing.since);
    }
}

impl BlobRecord {
    /// Returns what stands for a record that nobody can read, while that is removed.
    pub(super) fn unreadable(now: Timestamp) -> Self {
        Self {
            size: 0,
            data: None,
            created: now,
            state: State::Live,
            since: None,
        }
    }
}

/// A blob that has come in whole, to be published.
pub(super) struct Whole {
    pub(super) settled: Settled,
    /// When it was made a member of its repository, or could have been.
    pub(super) since: Timestamp,
}

/// A blob that is there.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its size in bytes.
    pub size: u64,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Inline(Bytes),
    Data(DataId),
}

impl Blob {
    /// Returns whether its bytes are this data object.
    fn is_at(&self, data: Option<&DataId>) -> bool {
        matches!((&self.source, data), (Source::Data(ours), Some(data)) if ours == data)
    }
}

/// The bytes of a blob, streamed.
pub type BlobStream = BoxStream<'static, Result<Bytes, StoreError>>;

impl Store {
    /// Returns the blob, where it is a member of the repository. It stays for the time of a
    /// collector's grace at least, whoever needs it besides the caller.
    ///
    /// # Errors
    /// [`StoreError::BlobUnknown`] where it is not.
    pub async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Blob, StoreError> {
        let (marker, record) = (keys::member(repository, digest), keys::blob(digest));
        self.objects().warm(&[&marker, &record]).await;
        let (member, blob) =
            tokio::try_join!(self.rely_on_marker(&marker), self.published(digest))?;
        blob.filter(|_| member)
            .ok_or_else(|| StoreError::BlobUnknown(digest.clone()))
    }

    /// Returns whether the blob is there to be pulled from the repository.
    pub(super) async fn has_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        match self.blob(repository, digest).await {
            Ok(_) => Ok(true),
            Err(StoreError::BlobUnknown(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the blob, whatever repository it is in, for somebody who will rely on it.
    async fn published(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let key = keys::blob(digest);
        match self.rely::<BlobRecord>(&key).await? {
            Some(seen) => blob_of(&key, &seen).map(Some),
            None => Ok(None),
        }
    }

    /// Returns a part of the blob's bytes. `range` lies within its size.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where the data that the record speaks of is missing or short.
    pub async fn read_blob(
        &self,
        blob: &Blob,
        range: Range<u64>,
    ) -> Result<BlobStream, StoreError> {
        Ok(self.blob_content(blob, range).await?.into_stream())
    }

    /// As [`Store::read_blob`], in the form in which the bytes are there.
    ///
    /// # Errors
    /// As [`Store::read_blob`].
    pub async fn blob_content(
        &self,
        blob: &Blob,
        range: Range<u64>,
    ) -> Result<Content, StoreError> {
        match &blob.source {
            Source::Inline(bytes) => {
                let index = |offset: u64| usize::try_from(offset).expect("within an inline blob");
                let part = bytes.slice(index(range.start)..index(range.end));
                Ok(Content::Bytes(part))
            }
            Source::Data(_) if range.is_empty() => Ok(Content::Bytes(Bytes::new())),
            Source::Data(data) => {
                let key = data.key();
                let content = self.objects().content(&key, range).await?;
                content.ok_or_else(|| StoreError::Damaged {
                    key: key.to_string(),
                    reason: "it is missing".to_owned(),
                })
            }
        }
    }

    /// Makes the blob visible in the repository, durably. Idempotent: where somebody published
    /// it before, theirs stays and our data goes.
    pub(super) async fn publish(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        whole: Whole,
    ) -> Result<(), StoreError> {
        let Whole { settled, since } = whole;
        let is_member = settled.beside;
        let data = match &settled.place {
            Place::Data(data) => Some(data.clone()),
            Place::Inline(_) => None,
        };
        // At the same time: a reader needs both, so the order cannot be seen.
        let (published, member) = tokio::join!(self.publish_record(digest, settled), async {
            match is_member {
                true => Ok(()),
                false => self.add_member(repository, digest).await,
            }
        });
        if let (Err(StoreError::Full), Some(data)) = (&published, &data)
            && let Ok(Found::Nothing) = self.find::<BlobRecord>(&keys::blob(digest)).await
        {
            // Surely not written. After other errors it may still come to be, and needs its data.
            self.discard_data(data).await;
        }
        published.and(member)?;
        if self.now().duration_since(since) <= RELY {
            return Ok(());
        }
        // We stood still for so long that any of it may have passed for litter.
        match self.blob(repository, digest).await {
            Ok(blob) if self.is_whole(&blob).await? => Ok(()),
            Ok(_) | Err(StoreError::BlobUnknown(_)) => {
                Err(StoreError::Contended(keys::blob(digest).to_string()))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn add_member(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        self.set_marker(&keys::member(repository, digest)).await
    }

    async fn publish_record(&self, digest: &Digest, settled: Settled) -> Result<(), StoreError> {
        let (data, bytes) = match settled.place {
            Place::Inline(bytes) => (None, Some(bytes)),
            Place::Data(data) => (Some(data), None),
        };
        let record = BlobRecord {
            size: settled.size,
            data: data.clone(),
            created: self.now(),
            state: State::Live,
            since: None,
        };
        let key = keys::blob(digest);
        let payload = record::encode(&record, bytes);
        // Once more where what we mend changes meanwhile.
        loop {
            let version = match self.establish::<BlobRecord>(&key, payload.clone()).await? {
                Established::Written => return Ok(()),
                Established::There(seen) => {
                    match blob_of(&key, &seen) {
                        // A write that seemed to fail, and was tried again, had been done.
                        Ok(blob) if blob.is_at(data.as_ref()) => return Ok(()),
                        Ok(blob) if self.is_whole(&blob).await? => {
                            if let Some(data) = &data {
                                self.discard_data(data).await;
                            }
                            return Ok(());
                        }
                        _ => {}
                    }
                    seen.version
                }
                Established::Damaged { version } => version,
            };
            tracing::warn!(blob.digest = %digest, "mending a damaged blob");
            if self
                .objects()
                .update(&key, payload.clone(), version)
                .await?
            {
                return Ok(());
            }
        }
    }

    /// Returns whether the bytes are where the record says, as many as it says.
    pub(super) async fn is_whole(&self, blob: &Blob) -> Result<bool, StoreError> {
        match &blob.source {
            Source::Inline(_) => Ok(true),
            Source::Data(data) => Ok(self.objects().size(&data.key()).await? == Some(blob.size)),
        }
    }

    /// Removes data that nothing speaks of; failing costs room, nothing else.
    pub(super) async fn discard_data(&self, data: &DataId) {
        if let Err(error) = self.data().forget(&data.key()).await {
            tracing::warn!(%error, "cannot remove data that nobody needs");
        }
    }

    /// Returns the digest of a data object by another algorithm than was computed while it
    /// arrived: the one case in which bytes are read again.
    pub(super) async fn hash_data(
        &self,
        settled: &Settled,
        expected: &Digest,
    ) -> Result<Digest, StoreError> {
        let mut hasher = deploy_spec::Hasher::new(expected.algorithm());
        let Place::Data(data) = &settled.place else {
            return Ok(settled.digest.clone());
        };
        let blob = Blob {
            size: settled.size,
            source: Source::Data(data.clone()),
        };
        let mut stream = self.read_blob(&blob, 0..settled.size).await?;
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            hasher = super::data::blocking(move || {
                hasher.update(&piece);
                Ok(hasher)
            })
            .await?;
        }
        Ok(hasher.finish())
    }

    /// Makes a blob of another repository, or of any where none is named, a member of this
    /// one. False where it is not there.
    pub async fn mount_blob(
        &self,
        repository: &RepositoryName,
        from: Option<&RepositoryName>,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        loop {
            let looked = self.now();
            let there = match from {
                Some(from) => self.has_blob(from, digest).await?,
                None => self.published(digest).await?.is_some(),
            };
            if !there {
                return Ok(false);
            }
            self.add_member(repository, digest).await?;
            if self.now().duration_since(looked) <= RELY {
                return Ok(true);
            }
        }
    }

    /// Removes the blob from the repository, durably. Its bytes stay for other repositories;
    /// collecting those that no repository has is upkeep.
    ///
    /// # Errors
    /// [`StoreError::BlobUnknown`] where it is no member.
    pub async fn delete_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let (marker, record) = (keys::member(repository, digest), keys::blob(digest));
        let there = self.has_marker(&marker).await?
            && match self.look::<BlobRecord>(&record).await {
                Ok(seen) => seen.is_some(),
                // Damaged, and in the way.
                Err(StoreError::Damaged { .. }) => true,
                Err(error) => return Err(error),
            };
        if !there {
            return Err(StoreError::BlobUnknown(digest.clone()));
        }
        self.objects().remove(&marker).await
    }
}

/// Returns the blob that a record publishes.
///
/// # Errors
/// [`StoreError::Damaged`] where it does not hold the bytes that it speaks of.
pub(super) fn blob_of(key: &Path, seen: &Seen<BlobRecord>) -> Result<Blob, StoreError> {
    let size = seen.header.size;
    let source = match &seen.header.data {
        Some(data) => Source::Data(data.clone()),
        None if seen.body.len() as u64 == size => Source::Inline(seen.body.clone()),
        None => {
            return Err(StoreError::Damaged {
                key: key.to_string(),
                reason: format!("it holds {} of {size} bytes", seen.body.len()),
            });
        }
    };
    Ok(Blob { size, source })
}
