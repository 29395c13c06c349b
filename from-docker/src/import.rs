//! From an image to the release of a configuration. Called by the program; what an image is and
//! where its bytes are, `source` has found out.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use deploy_spec::{
    Channel, ConfigurationName, LayerReference, ReleaseLayer, component::Layer,
    media_type::Compression,
};
use deployctl::{
    archive::{self, Recompressed},
    client::{Content, Part, PartReader, Progress},
    ops::{ImageLayer, ImportedImage, ImportedLayer, Outcome, PlannedLayer, Project},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::{
    ImportError, names,
    source::{SourceImage, SourceLayer},
};

/// How many layers are compressed at once: each takes a processor.
const COMPRESSED_AT_ONCE: usize = 2;

/// What is to become of an image.
#[derive(Clone, Debug)]
pub struct Request {
    /// The configuration; called after the image where it is not given.
    pub name: Option<ConfigurationName>,
    /// What the names of the layers' components begin with; the configuration's name where it is
    /// not given.
    pub component_prefix: Option<String>,
    /// Component versions that go on top of the image's layers, in this order.
    pub on_top: Vec<LayerReference>,
    /// The channel that moves.
    pub channel: Channel,
    /// Why, free text.
    pub reason: Option<String>,
    /// How layers are to be compressed; as they are where it is not given.
    pub recompress: Option<Compression>,
    /// A directory for layers that are compressed anew.
    pub scratch: PathBuf,
}

/// What an import would do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The configuration.
    pub configuration: ConfigurationName,
    /// The image's layers, lowest first.
    pub layers: Vec<PlannedLayer>,
    /// What goes on top of them.
    pub on_top: Vec<ReleaseLayer>,
    channel: Channel,
    reason: Option<String>,
    image: SourceImage,
}

/// What an import did.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The image's layers, lowest first.
    pub layers: Vec<ImportedLayer>,
    /// What went on top of them.
    pub on_top: Vec<ReleaseLayer>,
    /// The release.
    pub outcome: Outcome,
}

impl Plan {
    /// Finds out what has to be done to make an image the release of a configuration. Changes
    /// nothing in the registry. Layers that are to be compressed anew are, since their digests
    /// are known only then.
    ///
    /// # Errors
    /// [`ImportError`].
    pub async fn make(
        project: &Project,
        mut image: SourceImage,
        request: &Request,
    ) -> Result<Self, ImportError> {
        let configuration = match &request.name {
            Some(name) => name.clone(),
            None => names::configuration(image.name.as_deref())?,
        };
        let prefix = request.component_prefix.as_deref();
        let prefix = prefix.unwrap_or(configuration.as_str());
        // Before anything is read: both may be mistyped.
        let digests = image.layers.iter().map(|layer| &layer.layer.digest);
        for (index, digest) in digests.enumerate() {
            let own = names::layer(prefix, index + 1, digest)?;
            if let Some(twice) = (request.on_top.iter()).find(|top| top.component == own.component)
            {
                return Err(ImportError::LayerTwice(twice.clone()));
            }
        }
        project.registry.ping().await?;
        let on_top = project.layers(&request.on_top).await?;
        if let Some(compression) = request.recompress {
            image.layers = recompress(image.layers, compression, &request.scratch).await?;
        }
        let layers = image.layers.iter().enumerate();
        let layers: Vec<ImageLayer> = layers
            .map(|(index, layer)| {
                Ok(ImageLayer {
                    reference: names::layer(prefix, index + 1, &layer.layer.digest)?,
                    layer: layer.layer.clone(),
                    content: layer.content.clone(),
                })
            })
            .collect::<Result<_, ImportError>>()?;
        let planned = project
            .plan_import(&configuration, layers, &request.on_top)
            .await?;
        Ok(Self {
            configuration,
            layers: planned,
            on_top,
            channel: request.channel.clone(),
            reason: request.reason.clone(),
            image,
        })
    }

    /// Returns how many bytes are to be sent, at most.
    pub fn bytes_to_send(&self) -> u64 {
        self.layers.iter().map(PlannedLayer::bytes_to_send).sum()
    }

    /// Does it: layers, component versions, the release, and last the channel.
    ///
    /// `progress` gives out who is told of the layer at an index.
    ///
    /// # Errors
    /// [`ImportError`]; what is visible is as it was then, and layers that have arrived stay for
    /// the next import.
    pub async fn carry_out(
        self,
        project: &Project,
        progress: impl Fn(usize) -> Progress,
    ) -> Result<Imported, ImportError> {
        let layers = project.import_layers(&self.layers, progress).await?;
        let own = layers.iter().map(|imported| imported.layer.clone());
        let image = ImportedImage {
            layers: own.chain(self.on_top.iter().cloned()).collect(),
            image: self.image.image,
            annotations: self.image.annotations,
        };
        let outcome = project
            .import_configuration(
                &self.configuration,
                &self.channel,
                &image,
                self.reason.as_deref(),
            )
            .await?;
        Ok(Imported {
            layers,
            on_top: self.on_top,
            outcome,
        })
    }
}

/// Compresses layers anew, as far as they are not compressed that way, each into a file without a
/// name.
async fn recompress(
    layers: Vec<SourceLayer>,
    compression: Compression,
    scratch: &Path,
) -> Result<Vec<SourceLayer>, ImportError> {
    let layers = layers.into_iter().enumerate();
    stream::iter(layers)
        .map(|(index, layer)| recompress_layer(index + 1, layer, compression, scratch.to_owned()))
        .buffered(COMPRESSED_AT_ONCE)
        .try_collect()
        .await
}

async fn recompress_layer(
    position: usize,
    source: SourceLayer,
    compression: Compression,
    scratch: PathBuf,
) -> Result<SourceLayer, ImportError> {
    if source.layer.announced_compression() == Some(compression) {
        return Ok(source);
    }
    let failed = move |source| ImportError::Recompress { position, source };
    let reader = reader(&source);
    let algorithm = source.layer.digest.algorithm();
    let made = tokio::task::spawn_blocking(move || {
        let file = tempfile::tempfile_in(&scratch)
            .map_err(crate::error::failed("create a file in", &scratch))?;
        let output = io::BufWriter::with_capacity(256 * 1024, &file);
        let made = archive::recompress(reader, algorithm, output, compression);
        Ok::<_, ImportError>((made.map_err(failed)?, file, scratch))
    });
    let (made, file, scratch) = made.await??;
    check(&source.layer, &made).map_err(failed)?;
    let Recompressed {
        digest,
        size,
        unpacked_size,
        ..
    } = made;
    Ok(SourceLayer {
        layer: Layer {
            digest,
            size,
            media_type: compression.layer_media_type().to_owned(),
            diff_id: source.layer.diff_id,
            unpacked_size: Some(unpacked_size),
        },
        content: Content::Part(part(file, scratch, size)),
    })
}

fn part(file: File, path: PathBuf, size: u64) -> Part {
    Part {
        file: Arc::new(file),
        path,
        offset: 0,
        size,
    }
}

/// What was compressed anew has to be what the image says; its uncompressed bytes are checked when
/// it is sent.
fn check(layer: &Layer, made: &Recompressed) -> Result<(), archive::ArchiveError> {
    match made.source == layer.digest {
        true => Ok(()),
        false => Err(archive::ArchiveError::Digest {
            expected: layer.digest.clone(),
            found: made.source.clone(),
        }),
    }
}

/// Returns the bytes of a layer, for a blocking thread.
fn reader(source: &SourceLayer) -> Box<dyn io::Read + Send> {
    match &source.content {
        Content::Part(part) => Box::new(PartReader::from(part.clone())),
        Content::Blob { repository, size } => {
            let pieces = repository
                .blob(&source.layer.digest, Some(*size))
                .into_stream();
            let pieces = Box::pin(pieces.map_err(io::Error::other));
            Box::new(SyncIoBridge::new(StreamReader::new(pieces)))
        }
        other => unreachable!("no source gives {other:?}"),
    }
}
