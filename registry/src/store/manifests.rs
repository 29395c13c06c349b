//! Manifests: storing, conditional tagging, reading, deleting. The storage side of the
//! `manifests` endpoints.
//!
//! Order of writing: referrer's marker, manifest, catalog, tags. Order of deleting: tags,
//! manifest, referrer's marker. After a crash between any two, readers see the old state or
//! the new one: a marker without its manifest is passed over, a tag never lacks its manifest.

use bytes::Bytes;
use deploy_spec::{
    Algorithm, Descriptor, Digest, Outline, Reference, RepositoryName, Tag,
    manifest::without_parameters,
};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Store, error::StoreError, keys, objects::Created, record, tags::TagRecord};

/// Content that is looked for at the same time while a manifest is checked.
const CHECK_AT_ONCE: usize = 16;

/// The header of a manifest's object; its bytes follow, exactly as received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ManifestRecord {
    media_type: String,
    size: u64,
    /// When it first came to this repository.
    created: Timestamp,
    /// The manifest that it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Digest>,
}

/// A manifest that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type, as pushed.
    pub media_type: String,
    /// Its bytes, as pushed.
    pub bytes: Bytes,
    /// When it first came to this repository.
    pub created: Timestamp,
    subject: Option<Digest>,
}

/// What the reference of a conditional write must mean beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Whatever it means.
    #[default]
    None,
    /// Something (`If-Match: *`).
    Present,
    /// Nothing (`If-None-Match: *`).
    Absent,
    /// One of these (`If-Match`).
    OneOf(Vec<Digest>),
    /// None of these, or nothing (`If-None-Match`).
    NoneOf(Vec<Digest>),
}

impl Condition {
    /// Returns whether the condition holds where the reference means `current`.
    pub(super) fn holds(&self, current: Option<&Digest>) -> bool {
        match self {
            Self::None => true,
            Self::Present => current.is_some(),
            Self::Absent => current.is_none(),
            Self::OneOf(digests) => current.is_some_and(|current| digests.contains(current)),
            Self::NoneOf(digests) => current.is_none_or(|current| !digests.contains(current)),
        }
    }
}

/// A manifest to store.
#[derive(Clone, Debug)]
pub struct NewManifest<'a> {
    /// What it is pushed as.
    pub reference: &'a Reference,
    /// More tags for it.
    pub tags: &'a [Tag],
    /// What the client calls it.
    pub content_type: Option<&'a str>,
    /// Its bytes.
    pub bytes: Bytes,
    /// What `reference` must mean beforehand.
    pub condition: Condition,
}

/// A manifest that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
    /// How many of the layers or manifests that it is made of are not there.
    pub missing: usize,
}

impl Store {
    /// Returns the manifest that the reference means.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`] where there is none.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Manifest, StoreError> {
        let unknown = || StoreError::ManifestUnknown(reference.to_string());
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => self.tag(repository, tag).await?.ok_or_else(unknown)?.digest,
        };
        self.read_manifest(repository, &digest)
            .await?
            .ok_or_else(unknown)
    }

    pub(super) async fn read_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Manifest>, StoreError> {
        let key = keys::manifest(repository, digest);
        let Some(object) = self.objects().read(&key).await? else {
            return Ok(None);
        };
        let (record, bytes) = record::decode::<ManifestRecord>(&key, &object.bytes)?;
        if bytes.len() as u64 != record.size {
            return Err(StoreError::Damaged {
                key: key.to_string(),
                reason: format!("it holds {} of {} bytes", bytes.len(), record.size),
            });
        }
        Ok(Some(Manifest {
            digest: digest.clone(),
            media_type: record.media_type,
            bytes,
            created: record.created,
            subject: record.subject,
        }))
    }

    /// Returns what a reference means, by reading as little as possible.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`] where it means nothing.
    pub async fn resolve(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<TagRecord, StoreError> {
        let unknown = || StoreError::ManifestUnknown(reference.to_string());
        match reference {
            Reference::Tag(tag) => self.tag(repository, tag).await?.ok_or_else(unknown),
            Reference::Digest(_) => {
                let manifest = self.manifest(repository, reference).await?;
                Ok(TagRecord {
                    size: manifest.bytes.len() as u64,
                    digest: manifest.digest,
                    media_type: manifest.media_type,
                    moved: manifest.created,
                })
            }
        }
    }

    /// Stores a manifest and moves its tags to it. On return all of it is durable. Idempotent.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`], [`StoreError::ManifestInvalid`],
    /// [`StoreError::ContentMissing`] and [`StoreError::ConditionFailed`] change nothing,
    /// except that a manifest whose tag another writer moved first may stay, untagged.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        new: NewManifest<'_>,
    ) -> Result<Stored, StoreError> {
        let digest = match new.reference {
            Reference::Tag(_) => hash(Algorithm::Sha256, &new.bytes).await?,
            Reference::Digest(expected) => {
                let actual = hash(expected.algorithm(), &new.bytes).await?;
                if actual != *expected {
                    return Err(StoreError::DigestMismatch {
                        expected: expected.clone(),
                        actual,
                    });
                }
                actual
            }
        };
        let outline = Outline::parse(new.content_type, &new.bytes)?;
        self.check_condition(repository, &new).await?;
        let missing = self.check_content(repository, &outline).await?;

        // A deletion of the same manifest must not fall between manifest and tag.
        let _guard = self.lock_for_writing(repository).await;
        let subject = outline
            .subject
            .as_ref()
            .map(|subject| subject.digest.clone());
        if let Some(subject) = &subject {
            let marker = keys::referrer(repository, subject, &digest);
            self.objects().create(&marker, Bytes::new().into()).await?;
        }
        let media_type = match new.content_type.map(without_parameters) {
            Some(pushed) if !pushed.is_empty() => pushed.to_owned(),
            _ => outline.media_type,
        };
        let size = new.bytes.len() as u64;
        let record = ManifestRecord {
            media_type: media_type.clone(),
            size,
            created: Timestamp::now(),
            subject: subject.clone(),
        };
        self.write_manifest(repository, &digest, record, new.bytes)
            .await?;
        self.enter_repository(repository).await?;
        let record = TagRecord {
            digest: digest.clone(),
            media_type,
            size,
            moved: Timestamp::now(),
        };
        if let Reference::Tag(tag) = new.reference {
            self.move_tag(repository, tag, &record, &new.condition)
                .await?;
        }
        for tag in new.tags {
            self.move_tag(repository, tag, &record, &Condition::None)
                .await?;
        }
        Ok(Stored {
            digest,
            subject,
            missing,
        })
    }

    /// Refuses early what cannot succeed. Of tags, [`Store::move_tag`] has the last word.
    async fn check_condition(
        &self,
        repository: &RepositoryName,
        new: &NewManifest<'_>,
    ) -> Result<(), StoreError> {
        if new.condition == Condition::None {
            return Ok(());
        }
        let current = match self.resolve(repository, new.reference).await {
            Ok(current) => Some(current.digest),
            Err(StoreError::ManifestUnknown(_)) => None,
            Err(error) => return Err(error),
        };
        match new.condition.holds(current.as_ref()) {
            true => Ok(()),
            false => Err(StoreError::ConditionFailed { current }),
        }
    }

    async fn write_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        record: ManifestRecord,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let key = keys::manifest(repository, digest);
        let payload = record::encode(&record, [bytes]);
        if self.objects().create(&key, payload.clone()).await? == Created::New {
            return Ok(());
        }
        match self.read_manifest(repository, digest).await {
            Ok(Some(existing)) if existing.media_type == record.media_type => Ok(()),
            // Called something else this time, removed meanwhile, or damaged: ours is right.
            Ok(_) | Err(StoreError::Damaged { .. }) => self.objects().replace(&key, payload).await,
            Err(error) => Err(error),
        }
    }

    /// Checks that what the manifest is made of is there, and returns how much of it is not.
    ///
    /// A manifest may be sparse: some layers of an image, some manifests of an index need not
    /// be there, nor layers that are to be had elsewhere (`urls`), nor a subject. But where the
    /// configuration is missing, or all of the rest is, the pusher forgot to push.
    async fn check_content(
        &self,
        repository: &RepositoryName,
        outline: &Outline,
    ) -> Result<usize, StoreError> {
        let local = |descriptor: &&Descriptor| (descriptor.urls.as_ref()).is_none_or(Vec::is_empty);
        let parts: Vec<&Descriptor> = match outline.is_index() {
            true => outline.manifests.iter().collect(),
            false => outline.layers.iter().filter(local).collect(),
        };
        let missing_config = match &outline.config {
            Some(config) if !self.has_blob(repository, &config.digest).await? => {
                Some(&config.digest)
            }
            _ => None,
        };
        let looks = parts
            .iter()
            .map(|part| self.look_for(repository, outline, part.digest.clone()));
        let missing: Vec<Digest> = futures::stream::iter(looks.collect::<Vec<_>>())
            .buffered(CHECK_AT_ONCE)
            .try_filter_map(|missing| async move { Ok(missing) })
            .try_collect()
            .await?;
        if missing_config.is_some() || (!parts.is_empty() && missing.len() == parts.len()) {
            let all = missing_config.cloned().into_iter().chain(missing);
            return Err(StoreError::ContentMissing(all.collect()));
        }
        Ok(missing.len())
    }

    /// Returns the digest of a part of the manifest where that part is missing.
    async fn look_for(
        &self,
        repository: &RepositoryName,
        outline: &Outline,
        digest: Digest,
    ) -> Result<Option<Digest>, StoreError> {
        let there = match outline.is_index() {
            true => self.has_manifest(repository, &digest).await?,
            false => self.has_blob(repository, &digest).await?,
        };
        Ok((!there).then_some(digest))
    }

    async fn has_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let size = self
            .objects()
            .size(&keys::manifest(repository, digest))
            .await?;
        Ok(size.is_some())
    }

    /// Removes the manifest with all its tags, durably.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`] where there is none.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let _guard = self.lock_for_deleting(repository).await;
        let tags = self.tags_of(repository, digest).await?;
        self.remove_manifest(repository, digest, tags).await
    }

    /// Removes the manifest where no tag means it. Tags of it that appear meanwhile stay, and
    /// it with them.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`] where there is none.
    pub async fn delete_untagged(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let _guard = self.lock_for_deleting(repository).await;
        if self.tags_of(repository, digest).await?.is_empty() {
            self.remove_manifest(repository, digest, Vec::new()).await?;
        }
        Ok(())
    }

    async fn tags_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Tag>, StoreError> {
        let tags = self.all_tags(repository).await?;
        let ours = tags
            .into_iter()
            .filter(|(_, record)| record.digest == *digest);
        Ok(ours.map(|(tag, _)| tag).collect())
    }

    async fn remove_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        tags: Vec<Tag>,
    ) -> Result<(), StoreError> {
        let unknown = || StoreError::ManifestUnknown(digest.to_string());
        let subject = match self.read_manifest(repository, digest).await {
            Ok(found) => found.ok_or_else(unknown)?.subject,
            // A damaged one must not stay for ever.
            Err(StoreError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        futures::stream::iter(tags.into_iter().map(Ok))
            .try_for_each_concurrent(CHECK_AT_ONCE, |tag| async move {
                match self.delete_tag(repository, &tag).await {
                    Err(StoreError::ManifestUnknown(_)) => Ok(()),
                    done => done,
                }
            })
            .await?;
        self.objects()
            .remove(&keys::manifest(repository, digest))
            .await?;
        if let Some(subject) = subject {
            self.objects()
                .remove(&keys::referrer(repository, &subject, digest))
                .await?;
        }
        self.leave_repository(repository).await
    }
}

/// Large manifests take milliseconds: those go where that harms nobody.
async fn hash(algorithm: Algorithm, bytes: &Bytes) -> Result<Digest, StoreError> {
    const AT_ONCE_MAX: usize = 64 * 1024;
    if bytes.len() <= AT_ONCE_MAX {
        return Ok(Digest::of(algorithm, bytes));
    }
    let bytes = bytes.clone();
    super::data::blocking(move || Ok(Digest::of(algorithm, &bytes))).await
}
