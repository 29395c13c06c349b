//! Where releases and their layers come from. `deployer` and `runner` know nothing else of
//! registries.

use std::{error::Error, future::Future, io, path::Path, time::Duration};

use deploy_spec::{Descriptor, Digest, signature::Signature};
use deployctl::{
    client::Progress,
    report::{Report, causes},
};

use crate::{layout::LayoutSource, registry::RegistrySource};

/// What a look at the channel found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// This manifest.
    Manifest {
        /// Its digest, which its bytes have.
        id: Digest,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The known manifest still.
    Unchanged {
        /// Whether the answer was held back as long as was asked for.
        waited: bool,
    },
    /// Nothing: there is no such configuration or channel.
    Missing,
}

/// Why a source did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    message: String,
    storage_full: bool,
    retry_after: Option<Duration>,
}

impl SourceError {
    /// Returns the error that reads as `error` does.
    pub fn new(error: impl Error + 'static) -> Self {
        let storage_full = causes(&error).any(|error| {
            error.downcast_ref::<io::Error>().is_some_and(|error| {
                matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            })
        });
        Self {
            message: Report::new(&error).to_string(),
            storage_full,
            retry_after: None,
        }
    }

    /// Returns the error of a source that wants to be left alone for some time.
    #[must_use]
    pub fn until(self, retry_after: Option<Duration>) -> Self {
        Self {
            retry_after,
            ..self
        }
    }

    /// Returns how long the source wants to be left alone, where it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the disk that a layer was to be written to is full.
    pub fn is_storage_full(&self) -> bool {
        self.storage_full
    }
}

/// A blob that is to come into a file.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    /// Which blob.
    pub digest: &'a Digest,
    /// How many bytes it has.
    pub size: u64,
    /// The file, which holds the blob's beginning if it exists.
    pub path: &'a Path,
    /// Told when the file may have grown. Whoever reads it along keeps it open, and may see bytes
    /// that prove to be wrong, or that are written anew.
    pub progress: &'a Progress,
}

/// One channel of one configuration, and the content of its releases.
pub trait Source: Send + Sync + 'static {
    /// Returns how people know the channel, for logs.
    fn name(&self) -> String;

    /// Returns what the channel is, at the latest after `wait`. Sources that can, hold the
    /// answer back until the channel is something else than `known`.
    fn look(
        &self,
        known: Option<&Digest>,
        wait: Duration,
    ) -> impl Future<Output = Result<Look, SourceError>> + Send;

    /// Returns a small blob, verified; more than `limit` bytes are an error.
    fn document(
        &self,
        descriptor: &Descriptor,
        limit: u64,
    ) -> impl Future<Output = Result<Vec<u8>, SourceError>> + Send;

    /// Returns what is there of signatures of a release; nothing of it is known to be true.
    fn signatures(
        &self,
        release: &Digest,
    ) -> impl Future<Output = Result<Vec<Signature>, SourceError>> + Send;

    /// Brings a blob into a file. When it returns, the file is the blob, verified and on stable
    /// storage.
    fn fetch(&self, download: Download<'_>)
    -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// A source of either kind.
#[derive(Clone)]
pub enum AnySource {
    /// A registry.
    Registry(RegistrySource),
    /// A layout on this machine.
    Layout(LayoutSource),
}

impl Source for AnySource {
    fn name(&self) -> String {
        match self {
            Self::Registry(source) => source.name(),
            Self::Layout(source) => source.name(),
        }
    }

    async fn look(&self, known: Option<&Digest>, wait: Duration) -> Result<Look, SourceError> {
        match self {
            Self::Registry(source) => source.look(known, wait).await,
            Self::Layout(source) => source.look(known, wait).await,
        }
    }

    async fn document(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, SourceError> {
        match self {
            Self::Registry(source) => source.document(descriptor, limit).await,
            Self::Layout(source) => source.document(descriptor, limit).await,
        }
    }

    async fn signatures(&self, release: &Digest) -> Result<Vec<Signature>, SourceError> {
        match self {
            Self::Registry(source) => source.signatures(release).await,
            Self::Layout(source) => source.signatures(release).await,
        }
    }

    async fn fetch(&self, download: Download<'_>) -> Result<(), SourceError> {
        match self {
            Self::Registry(source) => source.fetch(download).await,
            Self::Layout(source) => source.fetch(download).await,
        }
    }
}
