//! Component versions as they are stored: found, and proved to be usable as a layer.

use std::io::Read;

use deploy_spec::{
    Algorithm, ComponentName, ComponentVersion, LayerReference, Reference, ReleaseLayer, Tag,
    Version, component::Layer,
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{OpsError, Project};
use crate::{
    archive::{self, ArchiveError, Depth, Inspected},
    client::{ClientError, Repository},
};

/// How many requests of one verb are under way at once.
pub(super) const PARALLEL: usize = 8;

impl Project {
    /// Returns a component version; nothing where the tag does not exist.
    pub(super) async fn find_version(
        &self,
        reference: &LayerReference,
    ) -> Result<Option<ComponentVersion>, OpsError> {
        let repository = self.component(&reference.component);
        let tag = Reference::Tag(Tag::from(&reference.version));
        let Some(manifest) = repository.manifest(&tag).await? else {
            return Ok(None);
        };
        let (component, version) = (reference.component.clone(), reference.version.clone());
        ComponentVersion::parse(component, version, &manifest.bytes)
            .map(Some)
            .map_err(|source| OpsError::NotAComponentVersion {
                reference: reference.clone(),
                source,
            })
    }

    /// Returns the error for a version that was not found.
    pub(super) async fn unknown_version(&self, reference: &LayerReference) -> OpsError {
        match self.component(&reference.component).tags().await {
            Ok(tags) if tags.is_empty() => OpsError::UnknownComponent(reference.component.clone()),
            Ok(_) => OpsError::UnknownVersion {
                component: reference.component.clone(),
                version: reference.version.clone(),
            },
            Err(error) => error.into(),
        }
    }

    /// Returns all versions of a component, in the order of their names. Tags that are no
    /// component version are passed over, unless none of them is one.
    pub(super) async fn versions(
        &self,
        component: &ComponentName,
    ) -> Result<Vec<ComponentVersion>, OpsError> {
        let tags = self.component(component).tags().await?;
        if tags.is_empty() {
            return Err(OpsError::UnknownComponent(component.clone()));
        }
        let mut found = stream::iter(tags)
            .map(|tag| async move {
                self.find_version(&LayerReference {
                    component: component.clone(),
                    version: Version::from(&tag),
                })
                .await
            })
            .buffered(PARALLEL);
        let (mut versions, mut other) = (Vec::new(), None);
        while let Some(result) = found.next().await {
            match result {
                Ok(version) => versions.extend(version),
                Err(error @ OpsError::NotAComponentVersion { .. }) => {
                    tracing::debug!(%error, "passing over a tag");
                    other = other.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        match other {
            Some(error) if versions.is_empty() => Err(error),
            _ => Ok(versions),
        }
    }

    /// Returns a component version as a layer of a release.
    ///
    /// What the manifest of another client does not say (the digest of the uncompressed
    /// archive) or may say wrongly (the compression) is read from the archive itself, and so is what
    /// an import left open. Archives that hosts unpack are taken, with an end mark or without.
    pub(super) async fn layer(&self, reference: &LayerReference) -> Result<ReleaseLayer, OpsError> {
        let Some(version) = self.find_version(reference).await? else {
            return Err(self.unknown_version(reference).await);
        };
        let layer = self.complete(reference, version.layer).await?;
        Ok(ReleaseLayer {
            component: version.component,
            version: version.version,
            created: version.created,
            digest: layer.digest,
            size: layer.size,
            media_type: layer.media_type,
            diff_id: layer.diff_id,
            unpacked_size: layer.unpacked_size,
        })
    }

    async fn complete(&self, reference: &LayerReference, layer: Layer) -> Result<Layer, OpsError> {
        let announced = layer.announced_compression();
        if let (Some(compression), Some(_), Some(_)) =
            (announced, &layer.diff_id, layer.unpacked_size)
        {
            return Ok(Layer {
                media_type: compression.layer_media_type().to_owned(),
                ..layer
            });
        }
        let repository = self.component(&reference.component);
        let bytes = blob_reader(&repository, &layer);
        let algorithm = layer.digest.algorithm();
        let look = move || archive::inspect_known(bytes, algorithm, Algorithm::Sha256, Depth::End);
        let found = tokio::task::spawn_blocking(look).await?;
        let found = found.map_err(|error| read_failure(error, &reference.to_string()))?;
        let uncompressed = found.uncompressed.expect("it was looked at to its end");
        Ok(Layer {
            media_type: found.compression.layer_media_type().to_owned(),
            diff_id: Some(uncompressed.diff_id),
            unpacked_size: Some(uncompressed.size),
            ..layer
        })
    }
}

/// Reads an archive out of a registry to its end and returns what it is.
pub(super) async fn inspect_blob(
    repository: &Repository,
    layer: &Layer,
    what: &str,
) -> Result<Inspected, OpsError> {
    let bytes = blob_reader(repository, layer);
    let inspected = tokio::task::spawn_blocking(move || archive::inspect(bytes)).await?;
    inspected.map_err(|error| read_failure(error, what))
}

/// Returns the bytes of a layer, to be read on a blocking thread.
fn blob_reader(repository: &Repository, layer: &Layer) -> impl Read + Send + use<> {
    let pieces = repository
        .blob(&layer.digest, Some(layer.size))
        .into_stream();
    let pieces = Box::pin(pieces.map_err(std::io::Error::other));
    SyncIoBridge::new(StreamReader::new(pieces))
}

/// Tells a broken connection from a broken archive.
fn read_failure(error: ArchiveError, what: &str) -> OpsError {
    match error {
        ArchiveError::Read(source)
            if source
                .get_ref()
                .is_some_and(|inner| inner.is::<ClientError>()) =>
        {
            let inner = source.into_inner().expect("it was looked at");
            let client = inner.downcast::<ClientError>().expect("it was looked at");
            OpsError::Client(*client)
        }
        source => OpsError::Archive {
            what: what.to_owned(),
            source,
        },
    }
}
