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
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{
    Store,
    error::StoreError,
    keys,
    state::{Collectable, Established, RELY, Seen, Standing, State},
    tags::TagRecord,
};

/// Content that is looked for at the same time while a manifest is checked.
const CHECK_AT_ONCE: usize = 16;

/// The header of a manifest's object; its bytes follow, exactly as received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManifestRecord {
    pub(super) media_type: String,
    pub(super) size: u64,
    /// When it first came to this repository.
    pub(super) created: Timestamp,
    /// The manifest that it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Digest>,
    #[serde(default, skip_serializing_if = "State::is_live")]
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

impl Collectable for ManifestRecord {
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

impl ManifestRecord {
    /// Returns what stands for a record that nobody can read, while that is removed.
    pub(super) fn unreadable(now: Timestamp) -> Self {
        Self {
            media_type: String::new(),
            size: 0,
            created: now,
            subject: None,
            state: State::Live,
            since: None,
        }
    }
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
    /// Returns the manifest that the reference means. One that is asked for by its digest stays
    /// for the time of a collector's grace at least.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`] where there is none.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Manifest, StoreError> {
        let unknown = || StoreError::ManifestUnknown(reference.to_string());
        let found = match reference {
            Reference::Digest(digest) => {
                let key = keys::manifest(repository, digest);
                match self.rely::<ManifestRecord>(&key).await? {
                    Some(seen) => Some(manifest_of(&key, digest, seen)?),
                    None => None,
                }
            }
            // Its tag keeps it.
            Reference::Tag(tag) => {
                let tag = self.tag(repository, tag).await?.ok_or_else(unknown)?;
                self.read_manifest(repository, &tag.digest).await?
            }
        };
        found.ok_or_else(unknown)
    }

    /// Returns the manifest as readers see it.
    pub(crate) async fn read_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Manifest>, StoreError> {
        let key = keys::manifest(repository, digest);
        match self.look::<ManifestRecord>(&key).await? {
            Some(seen) => manifest_of(&key, digest, seen).map(Some),
            None => Ok(None),
        }
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
        let mut looked = self.now();
        let mut missing = self.check_content(repository, &outline).await?;

        // A deletion of the same manifest must not fall between manifest and tag.
        let _guard = self.lock_for_writing(repository).await;
        let subject = outline
            .subject
            .as_ref()
            .map(|subject| subject.digest.clone());
        if let Some(subject) = &subject {
            let marker = keys::referrer(repository, subject, &digest);
            self.set_marker(&marker).await?;
        }
        let media_type = match new.content_type.map(without_parameters) {
            Some(pushed) if !pushed.is_empty() => pushed.to_owned(),
            _ => outline.media_type.clone(),
        };
        let size = new.bytes.len() as u64;
        let record = ManifestRecord {
            media_type: media_type.clone(),
            size,
            created: self.now(),
            subject: subject.clone(),
            state: State::Live,
            since: None,
        };
        self.write_manifest(repository, &digest, &record, &new.bytes)
            .await?;
        self.enter_repository(repository).await?;
        while self.now().duration_since(looked) > RELY {
            // What we saw may be gone by now. From here on, the manifest keeps it.
            looked = self.now();
            missing = self.check_content(repository, &outline).await?;
            self.write_manifest(repository, &digest, &record, &new.bytes)
                .await?;
        }
        let tag_record = TagRecord {
            digest: digest.clone(),
            media_type,
            size,
            moved: self.now(),
        };
        if let Reference::Tag(tag) = new.reference {
            self.move_tag(repository, tag, &tag_record, &new.condition)
                .await?;
        }
        for tag in new.tags {
            self.move_tag(repository, tag, &tag_record, &Condition::None)
                .await?;
        }
        // Another replica may have deleted the manifest meanwhile, and be about to delete what
        // tags of it there were: only what is written behind that stays.
        while !self.objects().is_exclusive() && !self.is_written(repository, &digest).await? {
            self.write_manifest(repository, &digest, &record, &new.bytes)
                .await?;
            if let Some(subject) = &subject {
                self.set_marker(&keys::referrer(repository, subject, &digest))
                    .await?;
            }
            self.enter_repository(repository).await?;
            let tag = match new.reference {
                Reference::Tag(tag) => Some(tag),
                Reference::Digest(_) => None,
            };
            for tag in tag.into_iter().chain(new.tags) {
                self.renew_tag(repository, tag, &tag_record).await?;
            }
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

    /// Lets the manifest be there, alive.
    async fn write_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        record: &ManifestRecord,
        bytes: &Bytes,
    ) -> Result<(), StoreError> {
        let key = keys::manifest(repository, digest);
        let payload = record.encode(bytes.clone());
        loop {
            let version = match self.establish(&key, payload.clone()).await? {
                Established::Written => return Ok(()),
                Established::There::<ManifestRecord>(seen)
                    if seen.header.media_type == record.media_type
                        && seen.body.len() as u64 == record.size =>
                {
                    return Ok(());
                }
                // Called something else this time, or damaged: ours is right.
                Established::There(Seen { version, .. }) | Established::Damaged { version } => {
                    version
                }
            };
            if self
                .objects()
                .update(&key, payload.clone(), version)
                .await?
            {
                return Ok(());
            }
        }
    }

    /// Returns whether a manifest that was just written still is.
    async fn is_written(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let key = keys::manifest(repository, digest);
        Ok(self.objects().size(&key).await?.is_some())
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
        let key = keys::manifest(repository, digest);
        match self.rely::<ManifestRecord>(&key).await {
            Err(StoreError::Damaged { .. }) => Ok(false),
            found => Ok(found?.is_some()),
        }
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
        let unknown = || StoreError::ManifestUnknown(digest.to_string());
        let subject = match self.read_manifest(repository, digest).await {
            Ok(found) => found.ok_or_else(unknown)?.subject,
            // A damaged one must not stay for ever.
            Err(StoreError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        self.remove_tags_of(repository, digest).await?;
        let key = keys::manifest(repository, digest);
        self.objects().remove(&key).await?;
        if !self.objects().is_exclusive() {
            // Of a pusher elsewhere that looked before.
            self.remove_tags_of(repository, digest).await?;
        }
        if let Some(subject) = subject
            && self.objects().size(&key).await?.is_none()
        {
            self.objects()
                .remove(&keys::referrer(repository, &subject, digest))
                .await?;
        }
        self.leave_repository(repository).await
    }

    /// Removes the tags of a manifest, unless they move meanwhile.
    async fn remove_tags_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let mut tags = self.judge_tags(repository).await?;
        tags.retain(|judged| judged.record.digest == *digest);
        futures::stream::iter(tags.into_iter().map(Ok))
            .try_for_each_concurrent(CHECK_AT_ONCE, |judged| async move {
                self.retire_tag(repository, judged).await.map(drop)
            })
            .await
    }
}

/// Returns the manifest that an object holds.
///
/// # Errors
/// [`StoreError::Damaged`] where it does not hold all of it.
pub(super) fn manifest_of(
    key: &Path,
    digest: &Digest,
    seen: Seen<ManifestRecord>,
) -> Result<Manifest, StoreError> {
    let (record, bytes) = (seen.header, seen.body);
    if bytes.len() as u64 != record.size {
        return Err(StoreError::Damaged {
            key: key.to_string(),
            reason: format!("it holds {} of {} bytes", bytes.len(), record.size),
        });
    }
    Ok(Manifest {
        digest: digest.clone(),
        media_type: record.media_type,
        bytes,
        created: record.created,
        subject: record.subject,
    })
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
