//! Storing a manifest, and moving tags to it under a condition.

use bytes::Bytes;
use deploy_spec::{
    Algorithm, Digest, Outline, Reference, RepositoryName, Tag, manifest::without_parameters,
};

use super::ManifestRecord;
use crate::store::{
    Store,
    change::{Change, Changes},
    data,
    error::StoreError,
    keys,
    state::{Collectable as _, Established, RELY, Seen, State},
    tags::TagRecord,
};

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
    pub(in crate::store) fn holds(&self, current: Option<&Digest>) -> bool {
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
        (self.put_manifest_noting(repository, new, &Changes::default())).await
    }

    /// As [`Store::put_manifest`], and notes what it changed, also where it fails half way.
    ///
    /// # Errors
    /// As there.
    pub async fn put_manifest_noting(
        &self,
        repository: &RepositoryName,
        new: NewManifest<'_>,
        changes: &Changes,
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
        let is_new = self
            .write_manifest(repository, &digest, &record, &new.bytes)
            .await?;
        if is_new {
            changes.note(Change::ManifestPut(digest.clone()));
        }
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
            self.move_tag(repository, tag, &tag_record, &new.condition, changes)
                .await?;
        }
        for tag in new.tags {
            self.move_tag(repository, tag, &tag_record, &Condition::None, changes)
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

    /// Lets the manifest be there, alive; false where it was.
    async fn write_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        record: &ManifestRecord,
        bytes: &Bytes,
    ) -> Result<bool, StoreError> {
        let key = keys::manifest(repository, digest);
        let payload = record.encode(bytes.clone());
        loop {
            let version = match self.establish(&key, payload.clone()).await? {
                Established::Written => return Ok(true),
                Established::There::<ManifestRecord>(seen)
                    if seen.header.media_type == record.media_type
                        && seen.body.len() as u64 == record.size =>
                {
                    // A write that seemed to fail, and was tried again, had been done.
                    return Ok(seen.header.created == record.created);
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
                return Ok(true);
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
}

/// Large manifests take milliseconds: those go where that harms nobody.
async fn hash(algorithm: Algorithm, bytes: &Bytes) -> Result<Digest, StoreError> {
    const AT_ONCE_MAX: usize = 64 * 1024;
    if bytes.len() <= AT_ONCE_MAX {
        return Ok(Digest::of(algorithm, bytes));
    }
    let bytes = bytes.clone();
    data::blocking(move || Ok(Digest::of(algorithm, &bytes))).await
}
