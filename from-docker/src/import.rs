//! From an image to the release of a configuration. Called by the program; what an image is and
//! where its bytes are, `source` has found out.

use std::path::PathBuf;

use deploy_spec::{
    Channel, ConfigurationName, Digest, LayerReference, ReleaseLayer, media_type::Compression,
};
use deployctl::{
    archive::Depth,
    client::Progress,
    ops::{ImageLayer, ImportedImage, ImportedLayer, Outcome, PlannedLayer, Project},
};

use crate::{ImportError, flatten::flatten, names, recompress::recompress, source::SourceImage};

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
    /// Whether the image's layers become one, compressed with gzip unless said otherwise.
    pub flatten: bool,
    /// How far into large layers is looked before they are sent.
    pub depth: Depth,
    /// A directory for layers that are made anew, and for those that they are made of.
    pub scratch: PathBuf,
}

impl Request {
    /// Returns the component version of the layer at an index of the result.
    fn layer(
        &self,
        configuration: &ConfigurationName,
        index: usize,
        digest: &Digest,
    ) -> Result<LayerReference, ImportError> {
        let prefix = self.component_prefix.as_deref();
        let prefix = prefix.unwrap_or(configuration.as_str());
        match self.flatten {
            true => names::flattened(prefix, digest),
            false => names::layer(prefix, index + 1, digest),
        }
    }
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
    /// Devices and named pipes that the image has and the result has not: no host would take them.
    /// Only where layers become one; they are in it otherwise.
    pub left_out: u64,
    channel: Channel,
    reason: Option<String>,
    depth: Depth,
    image: SourceImage,
}

/// What an import did.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The image's layers, lowest first.
    pub layers: Vec<ImportedLayer>,
    /// What went on top of them.
    pub on_top: Vec<ReleaseLayer>,
    /// What was left out, as planned.
    pub left_out: u64,
    /// The release.
    pub outcome: Outcome,
}

impl Plan {
    /// Finds out what has to be done to make an image the release of a configuration. Changes
    /// nothing in the registry. Layers that are to be compressed anew, or to become one, are and
    /// do, since their digests are known only then.
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
        // Before anything is read: both may be mistyped.
        let digests = image.layers.iter().map(|layer| &layer.layer.digest);
        for (index, digest) in digests.enumerate() {
            let own = request.layer(&configuration, index, digest)?;
            if let Some(twice) = (request.on_top.iter()).find(|top| top.component == own.component)
            {
                return Err(ImportError::LayerTwice(twice.clone()));
            }
        }
        project.registry.ping().await?;
        let on_top = project.layers(&request.on_top).await?;
        let mut left_out = 0;
        if request.flatten {
            let compression = request.recompress.unwrap_or(Compression::Gzip);
            let flat = flatten(image.layers, compression, &request.scratch).await?;
            (image.layers, left_out) = (vec![flat.layer], flat.left_out);
        } else if let Some(compression) = request.recompress {
            image.layers = recompress(image.layers, compression, &request.scratch).await?;
        }
        let layers = image.layers.iter().enumerate();
        let layers: Vec<ImageLayer> = layers
            .map(|(index, layer)| {
                Ok(ImageLayer {
                    reference: request.layer(&configuration, index, &layer.layer.digest)?,
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
            left_out,
            channel: request.channel.clone(),
            reason: request.reason.clone(),
            depth: request.depth,
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
        let layers = project
            .import_layers(&self.layers, self.depth, progress)
            .await?;
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
            left_out: self.left_out,
            outcome,
        })
    }
}
