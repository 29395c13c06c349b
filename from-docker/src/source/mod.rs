//! Where images come from. Each source finds the same facts: what the image's configuration and
//! annotations say, and for each layer its digest, its size, and where its bytes can be read from,
//! from any offset and as often as needed. No layer is read to find them, unless it is compressed
//! and nothing names its digest.
//!
//! * `registry`: any registry, by way of the client
//! * `docker_archive`: what `docker save` and `podman save` write, in each of their forms
//! * `layout`: an OCI image layout, a directory or an archive
//! * `daemon`, `spool`: what comes once and cannot be read again, kept in a file without a name

mod daemon;
mod docker_archive;
mod entries;
mod image;
mod layout;
mod registry;
mod spool;
mod store;

use std::{collections::BTreeMap, fs::File, io, path::PathBuf, sync::Arc};

use deploy_spec::{Digest, component::Layer, release::Image};
use deployctl::client::{Content, PartReader, Registry};
use futures::TryStreamExt as _;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::{ImportError, SourceReference, reference::Choice};
use entries::Entries;
pub use image::Wanted;

/// The largest document of an image that is read: what registries take at most, several times.
const DOCUMENT_MAX: u64 = 16 * 1024 * 1024;

/// An image, found where it is.
#[derive(Clone, Debug)]
pub struct SourceImage {
    /// The reference that it was found by.
    pub origin: String,
    /// The digest of its manifest, or of its configuration where it came without a manifest.
    pub digest: Digest,
    /// What it is called where it comes from.
    pub name: Option<String>,
    /// What its configuration says beside its layers.
    pub image: Image,
    /// Its annotations as those of a release, and where it is from.
    pub annotations: BTreeMap<String, String>,
    /// Its layers, lowest first.
    pub layers: Vec<SourceLayer>,
}

/// A layer of an image.
#[derive(Clone, Debug)]
pub struct SourceLayer {
    /// What it is.
    pub layer: Layer,
    /// Its bytes.
    pub content: Content,
}

impl SourceLayer {
    /// Returns a reader of its bytes, for a blocking thread.
    pub(crate) fn reader(&self) -> Box<dyn io::Read + Send> {
        match &self.content {
            Content::Part(part) => Box::new(PartReader::from(part.clone())),
            Content::Blob { repository, size } => {
                let pieces = repository
                    .blob(&self.layer.digest, Some(*size))
                    .into_stream();
                let pieces = Box::pin(pieces.map_err(io::Error::other));
                Box::new(SyncIoBridge::new(StreamReader::new(pieces)))
            }
            other => unreachable!("no source gives {other:?}"),
        }
    }
}

/// What sources need beside the name of an image.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Which platform's image is wanted.
    pub wanted: Wanted,
    /// The registry of an image that is in one.
    pub registry: Option<Registry>,
    /// The socket of the container engine.
    pub socket: PathBuf,
    /// A directory for what can be read only once.
    pub scratch: PathBuf,
    /// Standard input, or what stands for it.
    pub stdin: Arc<File>,
}

/// Returns the image of this reference.
///
/// # Errors
/// [`ImportError`].
pub async fn open(
    reference: &SourceReference,
    surroundings: &Surroundings,
) -> Result<SourceImage, ImportError> {
    let origin = reference.to_string();
    let wanted = &surroundings.wanted;
    match reference {
        SourceReference::Registry(name) => {
            let registry = surroundings.registry.clone();
            let registry = registry.expect("whoever names an image of a registry gives that too");
            registry::open(registry, name, origin, wanted).await
        }
        SourceReference::DockerArchive(path, choice) => {
            let file = spool::file(path.clone(), &surroundings.scratch).await?;
            docker_archive::open(scan(file, path.clone()).await?, choice, origin, wanted).await
        }
        SourceReference::Layout(path, choice) => {
            layout::directory(path, choice, origin, wanted).await
        }
        SourceReference::LayoutArchive(path, choice) => {
            let file = spool::file(path.clone(), &surroundings.scratch).await?;
            layout::archive(scan(file, path.clone()).await?, choice, origin, wanted).await
        }
        SourceReference::Daemon(name) => {
            let (socket, scratch) = (&surroundings.socket, &surroundings.scratch);
            let file = daemon::save(name, socket, scratch).await?;
            let entries = scan(file, origin.clone().into()).await?;
            let choice = Choice::Only;
            let image = docker_archive::open(entries, &choice, origin, wanted).await?;
            Ok(SourceImage {
                // The engine need not repeat what it was asked for.
                name: image.name.or_else(|| Some(name.clone())),
                ..image
            })
        }
        SourceReference::Stdin => {
            let (stdin, scratch) = (surroundings.stdin.clone(), &surroundings.scratch);
            let file = spool::stdin(stdin, scratch).await?;
            let entries = scan(file, "standard input".into()).await?;
            // Engines of today write a layout too; what Docker always wrote has the names.
            match docker_archive::is_one(&entries) {
                true => docker_archive::open(entries, &Choice::Only, origin, wanted).await,
                false => layout::archive(entries, &Choice::Only, origin, wanted).await,
            }
        }
    }
}

async fn scan(file: Arc<File>, path: PathBuf) -> Result<Entries, ImportError> {
    tokio::task::spawn_blocking(move || Entries::scan(file, &path)).await?
}
