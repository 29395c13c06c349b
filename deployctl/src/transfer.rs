//! Content from one place to another, with as few bytes moved as possible. For the verbs that
//! compose, and for importers and bundles.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use deploy_spec::{Descriptor, Digest, Outline, Reference, Tag, manifest::ManifestError};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    client::{ClientError, Condition, Content, Progress, Repository, Uploaded},
    layout::{Layout, LayoutError},
};

/// How many blobs move at once.
const PARALLEL: usize = 4;
/// How deep indexes of indexes may be nested.
const DEPTH_MAX: usize = 8;

/// Where content is: a repository of a registry, or a layout on disk.
#[derive(Clone, Debug)]
pub enum Place {
    /// A repository.
    Remote(Repository),
    /// A layout.
    Layout(Layout),
}

/// Why a transfer failed. The target's tags are as they were; blobs may have arrived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// A registry, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// No such manifest in the source.
    #[error("there is no manifest `{0}` to copy")]
    NoManifest(Reference),
    /// What is stored as a manifest is none.
    #[error("cannot copy manifest `{digest}`: {source}")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// Why not.
        source: ManifestError,
    },
    /// Indexes nested without end.
    #[error("cannot copy manifest `{0}`: indexes are nested more than 8 deep")]
    TooDeep(Digest),
    /// A blocking task was lost, which happens while the program ends.
    #[error("the work was cut short: {0}")]
    Cancelled(#[from] tokio::task::JoinError),
}

/// Makes sure that repository `to` has a blob of repository `from`: mounted where both are in
/// one registry that mounts, otherwise copied through. Idempotent.
///
/// # Errors
/// [`ClientError`]; [`ClientError::NotFound`] where `from` does not have it either.
pub async fn blob(
    digest: &Digest,
    size: u64,
    from: &Repository,
    to: &Repository,
    progress: &Progress,
) -> Result<Uploaded, ClientError> {
    // A blob that is there already is mounted as well, without a question before.
    if from.shares_registry_with(to) && to.mount(digest, Some(from.name())).await? {
        progress.report(size);
        return Ok(Uploaded::Mounted);
    }
    let content = Content::Blob {
        repository: from.clone(),
        size,
    };
    to.upload(digest, &content, progress).await
}

/// Copies a manifest with everything it references, and returns its descriptor. Blobs go
/// before manifests, children before their index, the tag last; what is there already does not
/// move. Manifests keep their bytes, and so their digests. Idempotent.
///
/// # Errors
/// [`TransferError`].
pub async fn image(
    from: &Place,
    reference: &Reference,
    to: &Place,
    tag: Option<&Tag>,
) -> Result<Descriptor, TransferError> {
    let manifest = from.manifest(reference).await?;
    let manifest = manifest.ok_or_else(|| TransferError::NoManifest(reference.clone()))?;
    copy_content(from, &manifest, to, 0).await?;
    let target = match tag {
        Some(tag) => Reference::Tag(tag.clone()),
        None => Reference::Digest(manifest.0.digest.clone()),
    };
    to.put_manifest(&manifest, Some(&target)).await?;
    Ok(manifest.0)
}

/// A manifest's bytes with what an index would say of them.
type Stored = (Descriptor, Bytes);

/// Copies what a manifest references, but not the manifest itself. Boxed, since it calls itself.
fn copy_content<'a>(
    from: &'a Place,
    (descriptor, bytes): &'a Stored,
    to: &'a Place,
    depth: usize,
) -> Pin<Box<dyn Future<Output = Result<(), TransferError>> + Send + 'a>> {
    Box::pin(async move {
        if depth > DEPTH_MAX {
            return Err(TransferError::TooDeep(descriptor.digest.clone()));
        }
        let outline = Outline::parse(Some(&descriptor.media_type), bytes).map_err(|source| {
            TransferError::Manifest {
                digest: descriptor.digest.clone(),
                source,
            }
        })?;
        // What lies elsewhere by its URL need not be in the source.
        let blobs = outline.blobs().filter(|blob| blob.urls.is_none()).cloned();
        stream::iter(blobs.collect::<Vec<_>>())
            .map(|blob| async move { copy_blob(from, &blob, to).await })
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        for child in &outline.manifests {
            let reference = Reference::Digest(child.digest.clone());
            let manifest = from.manifest(&reference).await?;
            let manifest = manifest.ok_or(TransferError::NoManifest(reference))?;
            copy_content(from, &manifest, to, depth + 1).await?;
            to.put_manifest(&manifest, None).await?;
        }
        Ok(())
    })
}

async fn copy_blob(from: &Place, blob: &Descriptor, to: &Place) -> Result<(), TransferError> {
    let (digest, size) = (&blob.digest, blob.size);
    match (from, to) {
        (Place::Remote(from), Place::Remote(to)) => {
            self::blob(digest, size, from, to, &Progress::none()).await?;
        }
        (Place::Layout(from), Place::Remote(to)) => {
            let content = Content::File {
                path: from.blob_path(digest),
                size,
            };
            to.upload(digest, &content, &Progress::none()).await?;
        }
        (Place::Remote(from), Place::Layout(to)) => {
            if to.blob_size(digest)?.is_none() {
                let partial = to.partial_path(digest)?;
                from.download(digest, Some(size), &partial, &Progress::none())
                    .await?;
                to.adopt(digest, &partial)?;
            }
        }
        (Place::Layout(from), Place::Layout(to)) => {
            let (from, to, digest) = (from.clone(), to.clone(), digest.clone());
            let copy = move || to.put_blob(&digest, from.open_blob(&digest)?);
            tokio::task::spawn_blocking(copy).await??;
        }
    }
    Ok(())
}

impl Place {
    async fn manifest(&self, reference: &Reference) -> Result<Option<Stored>, TransferError> {
        match self {
            Self::Remote(repository) => {
                let found = repository.manifest(reference).await?;
                Ok(found.map(|found| {
                    let size = found.bytes.len() as u64;
                    (
                        Descriptor::new(found.media_type, found.digest, size),
                        found.bytes,
                    )
                }))
            }
            Self::Layout(layout) => {
                let listed = layout.find(reference)?;
                let digest = match (&listed, reference) {
                    (Some(descriptor), _) => &descriptor.digest,
                    // Children of an index are in no list.
                    (None, Reference::Digest(digest)) => digest,
                    (None, Reference::Tag(_)) => return Ok(None),
                };
                let Some(bytes) = layout.read_blob(digest)? else {
                    return Ok(None);
                };
                let outline = Outline::parse(None, &bytes);
                let outline = outline.map_err(|source| TransferError::Manifest {
                    digest: digest.clone(),
                    source,
                })?;
                let descriptor =
                    Descriptor::new(outline.media_type, digest.clone(), bytes.len() as u64);
                Ok(Some((descriptor, bytes.into())))
            }
        }
    }

    /// Stores a manifest; listed or tagged where a reference is given.
    async fn put_manifest(
        &self,
        (descriptor, bytes): &Stored,
        reference: Option<&Reference>,
    ) -> Result<(), TransferError> {
        match self {
            Self::Remote(repository) => {
                let by_digest = Reference::Digest(descriptor.digest.clone());
                let reference = reference.unwrap_or(&by_digest);
                let (media_type, bytes) = (&descriptor.media_type, bytes.clone());
                let always = Condition::Always;
                repository
                    .put_manifest(reference, media_type, bytes, &always)
                    .await?;
            }
            Self::Layout(layout) => {
                layout.put_blob(&descriptor.digest, &bytes[..])?;
                match reference {
                    Some(Reference::Tag(tag)) => layout.list(descriptor, Some(tag))?,
                    Some(Reference::Digest(_)) => layout.list(descriptor, None)?,
                    None => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deploy_spec::media_type;
    use serde_json::json;

    fn stored(layout: &Layout, bytes: &[u8], media_type: &str) -> Descriptor {
        let digest = Digest::sha256(bytes);
        layout.put_blob(&digest, bytes).unwrap();
        Descriptor::new(media_type, digest, bytes.len() as u64)
    }

    #[tokio::test]
    async fn an_index_is_copied_between_layouts_with_all_it_references() {
        let directory = tempfile::tempdir().unwrap();
        let layout = |name: &str| Layout::create(directory.path().join(name)).unwrap();
        let (from, to) = (layout("from"), layout("to"));
        let layer = stored(&from, b"layer", media_type::LAYER_TAR);
        let config = stored(&from, b"{}", media_type::EMPTY);
        let image = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST,
            "config": config, "layers": [layer]});
        let image = stored(
            &from,
            image.to_string().as_bytes(),
            media_type::IMAGE_MANIFEST,
        );
        let index = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX,
            "manifests": [image]});
        let index = stored(&from, index.to_string().as_bytes(), media_type::IMAGE_INDEX);
        let tag: Tag = "v1".parse().unwrap();
        from.list(&index, Some(&tag)).unwrap();

        let (from, reference) = (Place::Layout(from), Reference::Tag(tag.clone()));
        let target = Place::Layout(to.clone());
        for _ in 0..2 {
            let copied = self::image(&from, &reference, &target, Some(&tag))
                .await
                .unwrap();
            assert_eq!(copied.digest, index.digest);
        }
        for digest in [&layer.digest, &config.digest, &image.digest, &index.digest] {
            assert!(to.read_blob(digest).unwrap().is_some());
        }
        assert_eq!(to.manifests().unwrap().len(), 1);
        let missing = Reference::Tag("v2".parse().unwrap());
        let result = self::image(&from, &missing, &target, None).await;
        assert!(matches!(result, Err(TransferError::NoManifest(_))));
    }
}
