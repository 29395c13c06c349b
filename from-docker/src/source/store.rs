//! Where an image's documents and layers are: a repository, a layout in a directory, or a layout
//! in an archive. Asked by the sources that read manifests.

use std::sync::Arc;

use bytes::Bytes;
use deploy_spec::{Descriptor, Digest, Reference};
use deployctl::{
    client::{Content, Part, Repository},
    layout::Layout,
};

use super::{
    DOCUMENT_MAX,
    entries::{Entries, read},
};
use crate::{ImportError, error::failed};

/// A place that has content by its digest.
#[derive(Clone, Debug)]
pub(super) enum Store {
    Repository(Repository),
    Files(Files),
}

/// A layout on this machine. Its operations block.
#[derive(Clone, Debug)]
pub(super) enum Files {
    Directory(Layout),
    Archive(Entries),
}

impl Store {
    /// Returns a manifest with the media type that the store says it has; nothing where there is
    /// none.
    pub(super) async fn manifest(
        &self,
        digest: &Digest,
    ) -> Result<Option<(Option<String>, Bytes)>, ImportError> {
        match self {
            Self::Repository(repository) => {
                let found = repository
                    .manifest(&Reference::Digest(digest.clone()))
                    .await?;
                Ok(found.map(|found| (Some(found.media_type), found.bytes)))
            }
            Self::Files(_) => Ok(self.document(digest).await?.map(|bytes| (None, bytes))),
        }
    }

    /// Returns a small blob, verified; nothing where there is none.
    pub(super) async fn document(&self, digest: &Digest) -> Result<Option<Bytes>, ImportError> {
        match self {
            Self::Repository(repository) => match repository.blob_size(digest).await? {
                Some(_) => Ok(Some(repository.blob_bytes(digest, DOCUMENT_MAX).await?)),
                None => Ok(None),
            },
            Self::Files(files) => {
                let (files, digest) = (files.clone(), digest.clone());
                tokio::task::spawn_blocking(move || files.document(&digest)).await?
            }
        }
    }

    /// Returns where the bytes of a layer are; nothing where the store does not have it.
    pub(super) async fn content(&self, layer: &Descriptor) -> Result<Option<Content>, ImportError> {
        match self {
            // Whether it is there is asked only of what has to be sent.
            Self::Repository(repository) => Ok(Some(Content::Blob {
                repository: repository.clone(),
                size: layer.size,
            })),
            Self::Files(files) => {
                let (files, digest) = (files.clone(), layer.digest.clone());
                let part = tokio::task::spawn_blocking(move || files.find(&digest)).await??;
                Ok(part.map(Content::Part))
            }
        }
    }
}

impl Files {
    /// Returns what messages call it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Directory(layout) => layout.root().display().to_string(),
            Self::Archive(entries) => entries.path().display().to_string(),
        }
    }

    /// Returns a blob, unread.
    pub(super) fn find(&self, digest: &Digest) -> Result<Option<Part>, ImportError> {
        match self {
            Self::Directory(layout) => {
                let Some(size) = layout.blob_size(digest)? else {
                    return Ok(None);
                };
                Ok(Some(Part {
                    file: Arc::new(layout.open_blob(digest)?),
                    path: layout.blob_path(digest),
                    offset: 0,
                    size,
                }))
            }
            Self::Archive(entries) => entries.find(&path(digest)),
        }
    }

    fn document(&self, digest: &Digest) -> Result<Option<Bytes>, ImportError> {
        let Some(part) = self.find(digest)? else {
            return Ok(None);
        };
        let bytes = read(&part, &path(digest), DOCUMENT_MAX)?;
        verify(&path(digest), digest, &bytes)?;
        Ok(Some(bytes.into()))
    }

    /// Returns the layout's list of manifests.
    pub(super) fn index(&self) -> Result<Vec<u8>, ImportError> {
        const INDEX: &str = "index.json";
        match self {
            Self::Directory(layout) => {
                let path = layout.root().join(INDEX);
                let file = std::fs::File::open(&path).map_err(failed("open", &path))?;
                let size = file.metadata().map_err(failed("read", &path))?.len();
                let part = Part {
                    file: Arc::new(file),
                    path,
                    offset: 0,
                    size,
                };
                read(&part, INDEX, DOCUMENT_MAX)
            }
            Self::Archive(entries) => {
                let found = entries.document(INDEX, DOCUMENT_MAX)?;
                found.ok_or_else(|| entries.missing(INDEX))
            }
        }
    }
}

/// Returns where a layout has a blob.
pub(super) fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// Makes sure that bytes are what their name says.
pub(super) fn verify(what: &str, expected: &Digest, bytes: &[u8]) -> Result<(), ImportError> {
    let found = Digest::of(expected.algorithm(), bytes);
    if found == *expected {
        return Ok(());
    }
    Err(ImportError::Digest {
        what: what.to_owned(),
        expected: expected.clone(),
        found,
    })
}
