//! A configuration's repository in an OCI registry, as a source. Made by `main`.

use std::time::Duration;

use deploy_spec::{
    Channel, ConfigurationName, Descriptor, Digest, Prefix, Tag, signature::Signature,
};
use deployctl::{
    client::{ClientError, Registry, Repository, Watched},
    signing,
};

use crate::source::{Download, Look, Source, SourceError};

/// Follows one channel of one configuration.
#[derive(Clone, Debug)]
pub struct RegistrySource {
    repository: Repository,
    channel: Tag,
}

impl RegistrySource {
    /// Returns the source. Connects to nothing yet.
    pub fn new(
        registry: &Registry,
        prefix: &Prefix,
        configuration: &ConfigurationName,
        channel: &Channel,
    ) -> Self {
        Self {
            repository: registry.repository(prefix.configuration(configuration)),
            channel: Tag::from(channel),
        }
    }
}

impl Source for RegistrySource {
    fn name(&self) -> String {
        let address = self.repository.registry().address().authority();
        format!("{address}/{}:{}", self.repository.name(), self.channel)
    }

    async fn look(&self, known: Option<&Digest>, wait: Duration) -> Result<Look, SourceError> {
        let watched = self
            .repository
            .watch_manifest(&self.channel, known, wait)
            .await;
        Ok(match watched.map_err(failed)? {
            Watched::Changed(manifest) => Look::Manifest {
                id: manifest.digest,
                bytes: manifest.bytes.to_vec(),
            },
            Watched::Unchanged { waited } => Look::Unchanged { waited },
            Watched::Missing => Look::Missing,
        })
    }

    async fn document(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, SourceError> {
        let bytes = self.repository.blob_bytes(&descriptor.digest, limit).await;
        Ok(bytes.map_err(failed)?.to_vec())
    }

    async fn signatures(&self, release: &Digest) -> Result<Vec<Signature>, SourceError> {
        let found = signing::in_repository(&self.repository, release).await;
        let found = found.map_err(failed)?.into_iter();
        Ok(found.map(|stored| stored.signature).collect())
    }

    async fn fetch(&self, download: Download<'_>) -> Result<(), SourceError> {
        let Download {
            digest,
            size,
            path,
            progress,
        } = download;
        self.repository
            .download(digest, Some(size), path, progress)
            .await
            .map(drop)
            .map_err(failed)
    }
}

fn failed(error: ClientError) -> SourceError {
    let told = error.retry_after();
    SourceError::new(error).until(told)
}
