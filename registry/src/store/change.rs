//! What an operation changed: for those who write down who did what. Noted where it happens, so
//! that an operation that fails half way has told of its first half.

use std::sync::{Mutex, PoisonError};

use deploy_spec::{Digest, Tag};

/// Something that readers see another way since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A manifest came into the repository.
    ManifestPut(Digest),
    /// A manifest is gone.
    ManifestDeleted(Digest),
    /// A tag means another manifest.
    TagMoved {
        /// The tag.
        tag: Tag,
        /// What it meant; nothing where it did not exist.
        before: Option<Digest>,
        /// What it means since.
        after: Digest,
    },
    /// A tag is gone.
    TagDeleted {
        /// The tag.
        tag: Tag,
        /// What it meant; nothing where nobody could read that.
        before: Option<Digest>,
    },
    /// A blob came into the repository, or was there already.
    BlobPut(Digest),
    /// A blob is gone from the repository.
    BlobDeleted(Digest),
}

/// Changes, in the order in which they happened.
#[derive(Debug, Default)]
pub struct Changes(Mutex<Vec<Change>>);

impl Changes {
    pub(super) fn note(&self, change: Change) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        changes.push(change);
    }

    /// Returns them.
    pub fn into_inner(self) -> Vec<Change> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
