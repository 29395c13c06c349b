//! What can go wrong in the store, as callers need to tell it apart. Made by everything in
//! `store`; `http/error.rs` turns it into status and code.

use std::{error::Error, io, path::PathBuf};

use deploy_spec::{Digest, RepositoryName, manifest::ManifestError};

use super::{redacted::redacted, upload_id::UploadId};

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such blob in this repository.
    #[error("no blob `{0}` in this repository")]
    BlobUnknown(Digest),
    /// No such manifest or tag in this repository.
    #[error("no manifest `{0}` in this repository")]
    ManifestUnknown(String),
    /// Nothing was ever pushed under this name.
    #[error("no repository `{0}`")]
    RepositoryUnknown(RepositoryName),
    /// No such upload in this repository: finished, cancelled, expired or never begun.
    #[error("no upload `{0}` in this repository")]
    UploadUnknown(UploadId),
    /// The bytes are not those that the digest names.
    #[error("content has digest `{actual}`, not `{expected}`")]
    DigestMismatch {
        /// What the client announced.
        expected: Digest,
        /// What arrived.
        actual: Digest,
    },
    /// A chunk does not begin where the upload stands. The upload goes on unharmed.
    #[error("chunk begins at byte {given}, but the upload stands at byte {offset}")]
    OutOfOrder {
        /// Where the upload stands.
        offset: u64,
        /// Where the chunk begins.
        given: u64,
    },
    /// A chunk is not as long as its range says. The upload goes on unharmed.
    #[error("chunk holds {received} bytes, its range announces {announced}")]
    LengthMismatch {
        /// By its `Content-Range`.
        announced: u64,
        /// What arrived until it was clear.
        received: u64,
    },
    /// Another request writes to the same upload.
    #[error("another request is writing to this upload")]
    UploadBusy,
    /// The document is no manifest.
    #[error(transparent)]
    ManifestInvalid(#[from] ManifestError),
    /// The manifest references content that was not pushed to this repository.
    #[error("manifest references content that is not in this repository: {}", listed(.0))]
    ContentMissing(Vec<Digest>),
    /// `If-Match` or `If-None-Match` does not hold.
    #[error("{}", match current {
        Some(digest) => format!("precondition failed: the manifest is `{digest}` now"),
        None => "precondition failed: there is no such manifest now".to_owned(),
    })]
    ConditionFailed {
        /// What the reference means now.
        current: Option<Digest>,
    },
    /// The request's body broke off.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// No room is left. Nothing was published, and reading goes on.
    #[error("storage is full")]
    Full,
    /// Upkeep is removing what was to be written; later it can be.
    #[error("`{0}` is being removed at this moment")]
    Removing(String),
    /// Others changed what was to be written again and again, or while this request stood still.
    #[error("`{0}` is changed by others at this moment")]
    Contended(String),
    /// It was told to stop. What it had begun is finished.
    #[error("stopped")]
    Stopped,
    /// A stored object is not as it was written.
    #[error("stored object `{key}` is damaged: {reason}")]
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process serves the directory.
    #[error("directory `{}` is in use by {holder}", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Who holds its lock, as far as it says so.
        holder: String,
    },
    /// The directory cannot be opened.
    #[error("cannot open directory `{}`", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The object store failed.
    #[error("storage failed")]
    Backend(#[source] object_store::Error),
}

impl StoreError {
    /// Returns whether the same may succeed in a while: a store that is reached over the network
    /// did not answer, or had too much to do.
    pub fn is_transient(&self) -> bool {
        const REMOTE: [&str; 3] = ["S3", "MicrosoftAzure", "GCS"];
        match self {
            Self::Backend(object_store::Error::Generic { store, .. }) => REMOTE.contains(store),
            _ => false,
        }
    }
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        if is_full(&error) {
            return Self::Full;
        }
        Self::Backend(redacted(error))
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::from(object_store::Error::Generic {
            store: "LocalDirectory",
            source: error.into(),
        })
    }
}

/// True where some cause of the error is a disk or a quota that has run out.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        if (error.downcast_ref::<io::Error>()).is_some_and(|error| full.contains(&error.kind())) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A list of a thousand digests helps nobody: the first few do.
fn listed(digests: &[Digest]) -> String {
    const SHOWN: usize = 4;
    let mut text = digests
        .iter()
        .take(SHOWN)
        .map(|digest| format!("`{digest}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if digests.len() > SHOWN {
        text.push_str(&format!(" and {} more", digests.len() - SHOWN));
    }
    text
}

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Nothing arrived for too long.
    #[error("nothing arrived for {0} seconds")]
    Idle(u64),
    /// The client came back in another request and goes on there.
    #[error("another request took this upload over")]
    TakenOver,
    /// The connection broke, or the framing is wrong.
    #[error("body broke off: {0}")]
    Broken(String),
}

/// Returns what an error says, and whatever caused it, for the log.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
