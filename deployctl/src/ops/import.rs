//! Images as configurations: each layer a component version, with the very bytes that it has.
//! For importers, which find the layers in whatever an image comes in.
//!
//! An import is planned, which changes nothing, and then carried out: bytes first, then the
//! versions of components, then the release, and the channel last. What fails before its end
//! leaves content that nothing names, and the next import goes on with it.

mod checking;
mod planning;

use std::collections::BTreeMap;

use deploy_spec::{
    Channel, ComponentVersion, ConfigurationName, LayerReference, ReleaseLayer, annotation,
    component::Layer, release::Image,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    OpsError, Outcome, Project,
    compose::{check_unique, same_layers},
    publish::put_version,
    release::Draft,
    version::PARALLEL,
};
use crate::{
    archive::{ArchiveError, Depth, Known},
    client::{ClientError, Content, Progress, Repository, Uploaded},
};

/// How many layers move at once.
const LAYERS: usize = 4;
/// What may differ between two imports of one image from two places.
const ORIGIN: [&str; 3] = [
    annotation::BASE_NAME,
    annotation::BASE_DIGEST,
    annotation::ORIGIN_CREATED,
];

/// A layer of an image.
#[derive(Clone, Debug)]
pub struct ImageLayer {
    /// The component version that it is to become, unless there is one of the same content.
    pub reference: LayerReference,
    /// What the image says of it.
    pub layer: Layer,
    /// Where its bytes are.
    pub content: Content,
}

/// How much of a layer the registry has.
#[derive(Clone, Debug)]
pub enum Standing {
    /// A component version: the one that was asked for, or one of the same content that a
    /// configuration uses.
    Version(Box<ComponentVersion>),
    /// Its bytes, where they belong.
    Stored,
    /// Its bytes, in another repository.
    Elsewhere(Repository),
    /// Nothing, but it is the same as a layer below, which will be in this repository.
    Repeated(Repository),
    /// Nothing that is known of.
    Missing,
}

/// A layer, and what is to be done about it.
#[derive(Clone, Debug)]
pub struct PlannedLayer {
    /// The layer.
    pub layer: ImageLayer,
    /// How much of it the registry has.
    pub standing: Standing,
}

/// A layer that has become part of a release, or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedLayer {
    /// The layer.
    pub layer: ReleaseLayer,
    /// What had to be done for its bytes.
    pub uploaded: Uploaded,
    /// True where its component version was made.
    pub created: bool,
}

/// An image whose layers are component versions.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedImage {
    /// The layers, lowest first.
    pub layers: Vec<ReleaseLayer>,
    /// What its configuration says beside its layers.
    pub image: Image,
    /// What its manifest says, and where it is from.
    pub annotations: BTreeMap<String, String>,
}

impl PlannedLayer {
    /// Returns the component version that the layer is or will be.
    pub fn reference(&self) -> LayerReference {
        match &self.standing {
            Standing::Version(version) => LayerReference {
                component: version.component.clone(),
                version: version.version.clone(),
            },
            _ => self.layer.reference.clone(),
        }
    }

    /// Returns how many bytes are to be sent, where no mount spares that.
    pub fn bytes_to_send(&self) -> u64 {
        match self.standing {
            Standing::Missing => self.layer.layer.size,
            _ => 0,
        }
    }
}

impl Project {
    /// Brings the layers of an image into the registry, several at once, and then makes their
    /// component versions, in this order. Idempotent.
    ///
    /// What is sent is checked as it passes: its digest, that it is a tar archive, and that its
    /// uncompressed bytes are those that the image says. The last bytes of what is not are never
    /// sent. Into compressed layers of more than 16 MiB is looked to this `depth` only, unless
    /// nothing says what their uncompressed bytes should be. What is not looked at, and what the
    /// registry has already, is taken at the image's word, and no component version repeats it;
    /// hosts verify what they unpack.
    ///
    /// `progress` gives out who is told of the layer at an index.
    ///
    /// # Errors
    /// [`OpsError::Archive`] for a layer that is not what the image says, [`OpsError::Client`],
    /// [`OpsError::VersionExists`].
    pub async fn import_layers(
        &self,
        planned: &[PlannedLayer],
        depth: Depth,
        progress: impl Fn(usize) -> Progress,
    ) -> Result<Vec<ImportedLayer>, OpsError> {
        // What is there once the rest is comes second.
        let (first, second): (Vec<_>, Vec<_>) = planned
            .iter()
            .enumerate()
            .partition(|(_, planned)| !matches!(planned.standing, Standing::Repeated(_)));
        let mut brought = BTreeMap::new();
        for round in [first, second] {
            let mut layers = stream::iter(round)
                .map(|(index, planned)| {
                    let (planned, progress) = (planned.clone(), progress(index));
                    async move {
                        let brought = self.bring(planned, depth, &progress).await?;
                        Ok::<_, OpsError>((index, brought))
                    }
                })
                .buffer_unordered(LAYERS);
            while let Some((index, layer)) = layers.try_next().await? {
                brought.insert(index, layer);
            }
        }
        let layers: Vec<_> = planned.iter().cloned().zip(brought.into_values()).collect();
        stream::iter(layers)
            .map(|(planned, brought)| self.publish(planned, brought))
            .buffered(PARALLEL)
            .try_collect()
            .await
    }

    /// Makes sure that the component's repository has a layer's bytes.
    async fn bring(
        &self,
        planned: PlannedLayer,
        depth: Depth,
        progress: &Progress,
    ) -> Result<(Uploaded, Option<Known>), OpsError> {
        let layer = &planned.layer.layer;
        let repository = self.component(&planned.layer.reference.component);
        let mounted = match &planned.standing {
            Standing::Version(_) | Standing::Stored => {
                progress.report(layer.size);
                return Ok((Uploaded::Existed, None));
            }
            Standing::Elsewhere(from) | Standing::Repeated(from) => {
                repository.mount(&layer.digest, Some(from.name())).await?
            }
            // From wherever the registry has it.
            Standing::Missing => repository.mount(&layer.digest, None).await?,
        };
        if mounted {
            progress.report(layer.size);
            return Ok((Uploaded::Mounted, None));
        }
        let what = planned.layer.reference.to_string();
        if layer.size == 0 {
            let source = ArchiveError::Empty;
            return Err(OpsError::Archive { what, source });
        }
        let (check, known) = checking::check(layer.clone(), depth);
        let content = Content::Checked {
            content: Box::new(planned.layer.content.clone()),
            check,
        };
        let uploaded = repository.upload(&layer.digest, &content, progress).await;
        let uploaded = uploaded.map_err(|error| refusal(error, what))?;
        Ok((uploaded, known.get().cloned()))
    }

    async fn publish(
        &self,
        planned: PlannedLayer,
        (uploaded, known): (Uploaded, Option<Known>),
    ) -> Result<ImportedLayer, OpsError> {
        let ImageLayer {
            reference, layer, ..
        } = planned.layer;
        // A release takes the image's word for what no version of a component repeats.
        let (diff_id, unpacked_size) = (layer.diff_id.clone(), layer.unpacked_size);
        let (version, created) = match planned.standing {
            Standing::Version(mut version) => {
                version.layer.media_type = layer.media_type;
                (*version, false)
            }
            _ => {
                let version = ComponentVersion {
                    component: reference.component.clone(),
                    version: reference.version.clone(),
                    created: Some(self.now()),
                    revision: None,
                    layer: checking::proved(layer, known),
                };
                let repository = self.component(&reference.component);
                match put_version(&repository, &version).await? {
                    true => (version, true),
                    false => (self.faster(&reference, version).await?, false),
                }
            }
        };
        Ok(ImportedLayer {
            layer: ReleaseLayer {
                component: version.component,
                version: version.version,
                created: version.created,
                digest: version.layer.digest,
                size: version.layer.size,
                media_type: version.layer.media_type,
                diff_id: version.layer.diff_id.or(diff_id),
                unpacked_size: version.layer.unpacked_size.or(unpacked_size),
            },
            uploaded,
            created,
        })
    }

    /// Returns the version that somebody else made meanwhile, of the same content as ours.
    async fn faster(
        &self,
        reference: &LayerReference,
        ours: ComponentVersion,
    ) -> Result<ComponentVersion, OpsError> {
        match self.find_version(reference).await? {
            Some(theirs) if theirs.layer.digest != ours.layer.digest => {
                Err(OpsError::VersionExists {
                    component: reference.component.clone(),
                    version: reference.version.clone(),
                    existing: theirs.layer.digest,
                })
            }
            Some(theirs) => Ok(ComponentVersion {
                created: theirs.created,
                ..ours
            }),
            None => Ok(ours),
        }
    }

    /// Makes an image the release of a configuration. Idempotent: an image of the same layers,
    /// configuration and annotations makes none, wherever it is from this time.
    ///
    /// # Errors
    /// As [`Project::add_configuration`].
    pub async fn import_configuration(
        &self,
        configuration: &ConfigurationName,
        channel: &Channel,
        imported: &ImportedImage,
        reason: Option<&str>,
    ) -> Result<Outcome, OpsError> {
        check_unique(imported.layers.iter().map(|layer| &layer.component))?;
        self.make_release(configuration, channel, |before| {
            let same = before.is_some_and(|shown| {
                let release = &shown.release;
                same_layers(&release.layers, &imported.layers)
                    && release.image == imported.image
                    && beside_origin(&release.annotations).eq(beside_origin(&imported.annotations))
            });
            Ok((!same).then(|| Draft {
                layers: imported.layers.clone(),
                image: imported.image.clone(),
                annotations: imported.annotations.clone(),
                reason: reason.map(str::to_owned),
            }))
        })
        .await
    }
}

fn beside_origin(
    annotations: &BTreeMap<String, String>,
) -> impl Iterator<Item = (&String, &String)> {
    let all = annotations.iter();
    all.filter(|(key, _)| !ORIGIN.contains(&key.as_str()))
}

/// Tells content that was refused from a registry that refuses.
fn refusal(error: ClientError, what: String) -> OpsError {
    match error {
        ClientError::Content { source } => match source.downcast::<ArchiveError>() {
            Ok(source) => OpsError::Archive {
                what,
                source: *source,
            },
            Err(source) => ClientError::Content { source }.into(),
        },
        error => error.into(),
    }
}
