//! Manifests: what their objects hold, and reading them. The storage side of the `manifests`
//! endpoints.
//!
//! ```text
//! put        storing, and moving tags under a condition
//!   content  whether what a manifest is made of is there
//! delete     removing one with its tags
//! ```
//!
//! Order of writing: referrer's marker, manifest, catalog, tags. Order of deleting: tags,
//! manifest, referrer's marker. After a crash between any two, readers see the old state or
//! the new one: a marker without its manifest is passed over, a tag never lacks its manifest.

mod content;
mod delete;
mod put;

use bytes::Bytes;
use deploy_spec::{Digest, Reference, RepositoryName};
use jiff::Timestamp;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{
    Store,
    error::StoreError,
    keys,
    state::{Collectable, Seen, Standing, State},
    tags::TagRecord,
};

pub use put::{Condition, NewManifest, Stored};

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
