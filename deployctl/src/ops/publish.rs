//! New component versions: out of a finished archive, of files to pack, or of content that the
//! registry has already.

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use deploy_spec::{
    ComponentVersion, Digest, LayerReference, Reference, Tag,
    component::{EMPTY_CONFIG, Layer},
    media_type,
};
use serde::Serialize;

use super::{OpsError, Project, version::inspect_blob};
use crate::{
    archive::{self, Inspected, PackOptions},
    client::{Condition, Content, Progress, Put, Repository, Uploaded},
};

/// Where the archive of a new version comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A finished archive on this machine.
    File(PathBuf),
    /// Content that the registry has already.
    Hash(Digest),
}

/// What became of a new version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Added {
    /// The component version, `component:version`.
    #[serde(serialize_with = "as_text")]
    pub reference: LayerReference,
    /// False where the very same version was there before.
    pub created: bool,
    /// Digest of the archive.
    pub digest: Digest,
    /// Size of the archive in bytes.
    pub size: u64,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Size of the uncompressed archive in bytes.
    pub unpacked_size: u64,
    /// True where bytes were sent.
    pub uploaded: bool,
}

fn as_text<S: serde::Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Project {
    /// Adds a version of a component. The archive is read to its end and checked before
    /// anything becomes visible.
    ///
    /// Idempotent: the same bytes under the same name succeed again and change nothing.
    ///
    /// # Errors
    /// [`OpsError::VersionExists`] for other bytes, [`OpsError::Archive`],
    /// [`OpsError::UnknownContent`], [`OpsError::File`], [`OpsError::Client`].
    pub async fn add_version(
        &self,
        reference: &LayerReference,
        source: &Source,
        revision: Option<&str>,
        progress: &Progress,
    ) -> Result<Added, OpsError> {
        let repository = self.component(&reference.component);
        match source {
            Source::File(path) => {
                self.registry.ping().await?;
                let inspected = inspect_file(path).await?;
                let publication = Publication::new(self, reference, revision, &inspected);
                publication.of_file(&repository, path, progress).await
            }
            Source::Hash(digest) => {
                let size = self.find_content(&repository, reference, digest).await?;
                let layer = Layer {
                    digest: digest.clone(),
                    size,
                    media_type: String::new(),
                    diff_id: None,
                    unpacked_size: None,
                };
                let inspected = inspect_blob(&repository, &layer, &digest.to_string()).await?;
                let publication = Publication::new(self, reference, revision, &inspected);
                publication.of_present(&repository).await
            }
        }
    }

    /// Adds a version of a component out of files and directories, packed so that the same
    /// tree gives the same digest on any machine; a single finished archive is taken as it is.
    ///
    /// # Errors
    /// As [`Project::add_version`], and [`OpsError::Pack`].
    pub async fn push(
        &self,
        reference: &LayerReference,
        paths: &[PathBuf],
        options: PackOptions,
        revision: Option<&str>,
        progress: &Progress,
    ) -> Result<Added, OpsError> {
        if let [path] = paths
            && is_finished(path).await?
        {
            let source = Source::File(path.clone());
            return self
                .add_version(reference, &source, revision, progress)
                .await;
        }
        self.registry.ping().await?;
        let scratch = tempfile::NamedTempFile::new_in(&self.scratch)
            .map_err(failed("create a file in", &self.scratch))?;
        let packing = (paths.to_vec(), scratch.as_file().try_clone());
        let packed = tokio::task::spawn_blocking(move || {
            let (paths, output) = packing;
            let output = output.map_err(archive::ArchiveError::Write)?;
            archive::pack(&paths, io::BufWriter::new(output), &options)
                .map(|packed| (packed, options.compression))
        })
        .await?;
        let (packed, compression) = packed.map_err(|source| OpsError::Pack {
            reference: reference.clone(),
            source,
        })?;
        let publication = Publication {
            project: self,
            reference,
            revision,
            layer: Layer {
                digest: packed.digest,
                size: packed.size,
                media_type: compression.layer_media_type().to_owned(),
                diff_id: Some(packed.diff_id),
                unpacked_size: Some(packed.unpacked_size),
            },
        };
        let repository = self.component(&reference.component);
        publication
            .of_file(&repository, scratch.path(), progress)
            .await
    }

    /// Returns the size of content that the component's repository has, or gets now by a mount
    /// from wherever the registry has it.
    async fn find_content(
        &self,
        repository: &Repository,
        reference: &LayerReference,
        digest: &Digest,
    ) -> Result<u64, OpsError> {
        if let Some(size) = repository.blob_size(digest).await? {
            return Ok(size);
        }
        if repository.mount(digest, None).await?
            && let Some(size) = repository.blob_size(digest).await?
        {
            return Ok(size);
        }
        Err(OpsError::UnknownContent {
            digest: digest.clone(),
            component: reference.component.clone(),
            repository: repository.name().to_string(),
        })
    }
}

/// A version on its way into the registry.
struct Publication<'a> {
    project: &'a Project,
    reference: &'a LayerReference,
    revision: Option<&'a str>,
    layer: Layer,
}

impl<'a> Publication<'a> {
    fn new(
        project: &'a Project,
        reference: &'a LayerReference,
        revision: Option<&'a str>,
        inspected: &Inspected,
    ) -> Self {
        Self {
            project,
            reference,
            revision,
            layer: Layer {
                digest: inspected.digest.clone(),
                size: inspected.size,
                media_type: inspected.compression.layer_media_type().to_owned(),
                diff_id: Some(inspected.diff_id.clone()),
                unpacked_size: Some(inspected.unpacked_size),
            },
        }
    }

    async fn of_file(
        &self,
        repository: &Repository,
        path: &Path,
        progress: &Progress,
    ) -> Result<Added, OpsError> {
        if self.exists().await? {
            progress.report(self.layer.size);
            return Ok(self.added(false, false));
        }
        let content = Content::File {
            path: path.to_owned(),
            size: self.layer.size,
        };
        let uploaded = repository
            .upload(&self.layer.digest, &content, progress)
            .await?;
        self.put_manifest(repository, matches!(uploaded, Uploaded::Sent { .. }))
            .await
    }

    async fn of_present(&self, repository: &Repository) -> Result<Added, OpsError> {
        if self.exists().await? {
            return Ok(self.added(false, false));
        }
        self.put_manifest(repository, false).await
    }

    /// Returns whether the version is there with the same content.
    async fn exists(&self) -> Result<bool, OpsError> {
        match self.project.find_version(self.reference).await? {
            None => Ok(false),
            Some(found) if found.layer.digest == self.layer.digest => Ok(true),
            Some(found) => Err(OpsError::VersionExists {
                component: self.reference.component.clone(),
                version: self.reference.version.clone(),
                existing: found.layer.digest,
            }),
        }
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        uploaded: bool,
    ) -> Result<Added, OpsError> {
        let version = ComponentVersion {
            component: self.reference.component.clone(),
            version: self.reference.version.clone(),
            created: Some(self.project.now()),
            revision: self.revision.map(str::to_owned),
            layer: self.layer.clone(),
        };
        let created = put_version(repository, &version).await?;
        if !created {
            // Somebody was faster: with the same bytes, or not.
            self.exists().await?;
        }
        Ok(self.added(created, uploaded))
    }

    fn added(&self, created: bool, uploaded: bool) -> Added {
        let known = "set for every publication";
        Added {
            reference: self.reference.clone(),
            created,
            digest: self.layer.digest.clone(),
            size: self.layer.size,
            diff_id: self.layer.diff_id.clone().expect(known),
            unpacked_size: self.layer.unpacked_size.expect(known),
            uploaded,
        }
    }
}

/// Writes the manifest of a version whose archive is stored, and returns whether it did: not where
/// there is such a version. Blobs before manifests: the configuration goes first, the tag last.
pub(super) async fn put_version(
    repository: &Repository,
    version: &ComponentVersion,
) -> Result<bool, OpsError> {
    let empty = Content::Bytes(Bytes::from_static(EMPTY_CONFIG));
    let digest = Digest::sha256(EMPTY_CONFIG);
    repository
        .upload(&digest, &empty, &Progress::none())
        .await?;
    let tag = Reference::Tag(Tag::from(&version.version));
    let bytes = Bytes::from(version.to_manifest());
    let put = repository
        .put_manifest(&tag, media_type::IMAGE_MANIFEST, bytes, &Condition::Absent)
        .await?;
    Ok(put == Put::Stored)
}

async fn inspect_file(path: &Path) -> Result<Inspected, OpsError> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let file = File::open(&path).map_err(failed("open", &path))?;
        let metadata = file.metadata().map_err(failed("read", &path))?;
        if metadata.is_dir() {
            let source = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(failed("read", &path)(source));
        }
        archive::inspect(BufReader::with_capacity(READ_BUFFER, file)).map_err(|source| {
            OpsError::Archive {
                what: path.display().to_string(),
                source,
            }
        })
    })
    .await?
}

/// How much of a file is read at a time.
const READ_BUFFER: usize = 256 * 1024;

/// What the names of finished archives end in.
const ARCHIVE_SUFFIXES: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.zstd"];

/// True for a file that is a finished archive, by its name or else by its content: a file of an
/// archive's name must be one, so that a damaged archive is refused and not packed.
async fn is_finished(path: &Path) -> Result<bool, OpsError> {
    let metadata = tokio::fs::metadata(path)
        .await
        .map_err(failed("read", path))?;
    if !metadata.is_file() {
        return Ok(false);
    }
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if ARCHIVE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
        return Ok(true);
    }
    match inspect_file(path).await {
        Ok(_) => Ok(true),
        Err(OpsError::Archive { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn failed(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> OpsError {
    let path = path.into();
    move |source| OpsError::File {
        action,
        path,
        source,
    }
}
