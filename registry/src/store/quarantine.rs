//! What is set aside: damaged objects, out of everybody's way, until an operator has looked at
//! them. Used by `scrub`; `collect` keeps what they name.
//!
//! Readers find nothing where the damaged object was, so that the next push of the same content
//! stores it anew.

use bytes::Bytes;
use deploy_spec::{Digest, RepositoryName};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{
    Store,
    error::StoreError,
    keys::{self, DataId},
    record,
    state::{Collectable, Seen},
};

/// The header of an object that was set aside; the object as it was follows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Quarantined {
    /// Where it was.
    pub(super) key: String,
    /// What is wrong with it.
    pub(super) reason: String,
    /// When that was found.
    pub(super) found: Timestamp,
    /// The repository, of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) repository: Option<RepositoryName>,
    /// The data that it names, which stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<DataId>,
}

/// A damaged object.
pub(super) struct Damaged<'a, H> {
    pub(super) key: &'a Path,
    pub(super) digest: &'a Digest,
    pub(super) repository: Option<&'a RepositoryName>,
    pub(super) reason: String,
    /// As it was read; with a header of no meaning where that is damaged itself.
    pub(super) seen: Seen<H>,
    /// All of the object.
    pub(super) bytes: Bytes,
    pub(super) data: Option<DataId>,
}

impl Store {
    /// Sets an object aside and returns where to; nothing where it has changed meanwhile.
    pub(super) async fn set_aside<H: Collectable>(
        &self,
        damaged: Damaged<'_, H>,
    ) -> Result<Option<Path>, StoreError> {
        let header = Quarantined {
            key: damaged.key.to_string(),
            reason: damaged.reason,
            found: self.now(),
            repository: damaged.repository.cloned(),
            data: damaged.data,
        };
        // First the copy: a crash leaves both, never neither.
        let aside = keys::quarantined(damaged.digest);
        let payload = record::encode(&header, [damaged.bytes]);
        self.objects().create(&aside, payload).await?;
        if self.retire(damaged.key, damaged.seen, None).await? {
            return Ok(Some(aside));
        }
        self.objects().remove(&aside).await?;
        Ok(None)
    }

    /// Removes all that is set aside, and returns how many objects that were. The data that
    /// they name is litter from then on.
    ///
    /// # Errors
    /// Of the store.
    pub async fn empty_quarantine(&self) -> Result<u64, StoreError> {
        let mut removed = 0;
        let mut listing = self.objects().list(&keys::quarantine(), None);
        while let Some(key) = listing.try_next().await? {
            self.objects().remove(&key).await?;
            removed += 1;
        }
        Ok(removed)
    }
}
