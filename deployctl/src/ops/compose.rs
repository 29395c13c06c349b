//! Configurations: created or replaced, one layer changed, one layer brought up to date.

use std::collections::{BTreeMap, BTreeSet};

use deploy_spec::{
    Channel, ComponentName, ConfigurationName, LayerReference, ReleaseLayer, Version,
    release::Image,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{OpsError, Outcome, Project, release::Draft, version::PARALLEL};

/// The layer to change, and what it is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerChange {
    /// The configuration.
    pub configuration: ConfigurationName,
    /// The channel that moves.
    pub channel: Channel,
    /// The version that the component's layer becomes.
    pub layer: LayerReference,
}

/// What came of bringing a layer up to date.
#[derive(Clone, Debug, PartialEq)]
pub struct Bump {
    /// The release, as for any change.
    pub outcome: Outcome,
    /// The newest version.
    pub version: Version,
    /// The version that the layer was before.
    pub previous: Version,
}

impl Project {
    /// Creates a configuration of these layers, lowest first, or replaces what it is.
    ///
    /// # Errors
    /// [`OpsError::NoLayers`], [`OpsError::DuplicateComponent`], [`OpsError::UnknownComponent`],
    /// [`OpsError::UnknownVersion`], [`OpsError::NotAComponentVersion`], [`OpsError::Archive`],
    /// [`OpsError::Contended`], [`OpsError::Client`].
    pub async fn add_configuration(
        &self,
        configuration: &ConfigurationName,
        channel: &Channel,
        layers: &[LayerReference],
        reason: Option<&str>,
    ) -> Result<Outcome, OpsError> {
        if layers.is_empty() {
            return Err(OpsError::NoLayers);
        }
        check_unique(layers.iter().map(|layer| &layer.component))?;
        let layers = self.layers(layers).await?;
        let image = Image::new(architecture(), "linux");
        self.make_release(configuration, channel, |before| {
            let same = before.is_some_and(|shown| {
                same_layers(&shown.release.layers, &layers) && shown.release.image == image
            });
            Ok((!same).then(|| Draft {
                layers: layers.clone(),
                image: image.clone(),
                annotations: BTreeMap::new(),
                reason: reason.map(str::to_owned),
            }))
        })
        .await
    }

    /// Returns component versions as layers of a release, in their order.
    ///
    /// # Errors
    /// [`OpsError::UnknownComponent`], [`OpsError::UnknownVersion`],
    /// [`OpsError::NotAComponentVersion`], [`OpsError::Archive`], [`OpsError::Client`].
    pub async fn layers(&self, layers: &[LayerReference]) -> Result<Vec<ReleaseLayer>, OpsError> {
        stream::iter(layers.to_vec())
            .map(|layer| async move { self.layer(&layer).await })
            .buffered(PARALLEL)
            .try_collect()
            .await
    }

    /// Makes the layer of a component another version; the order of layers is kept.
    ///
    /// # Errors
    /// [`OpsError::UnknownConfiguration`], [`OpsError::NoSuchLayer`], and those of
    /// [`Project::add_configuration`].
    pub async fn change_configuration(
        &self,
        change: &LayerChange,
        reason: Option<&str>,
    ) -> Result<Outcome, OpsError> {
        // First, so that an unknown configuration is called that whatever the version is.
        self.layer_version(change).await?;
        let layer = self.layer(&change.layer).await?;
        let configuration = &change.configuration;
        self.make_release(configuration, &change.channel, |before| {
            let Some(before) = before else {
                return Err(OpsError::UnknownConfiguration(configuration.clone()));
            };
            let mut layers = before.release.layers.clone();
            let position = layers
                .iter()
                .position(|found| found.component == layer.component)
                .ok_or_else(|| no_such_layer(change))?;
            layers[position] = layer.clone();
            let same = same_layers(&before.release.layers, &layers);
            Ok((!same).then(|| Draft {
                layers,
                image: before.release.image.clone(),
                annotations: before.release.annotations.clone(),
                reason: reason.map(str::to_owned),
            }))
        })
        .await
    }

    /// Makes the layer of a component the version that was created last; among several of one
    /// second, the one whose name sorts last.
    ///
    /// # Errors
    /// As [`Project::change_configuration`].
    pub async fn bump_configuration(
        &self,
        configuration: &ConfigurationName,
        channel: &Channel,
        component: &ComponentName,
        reason: Option<&str>,
    ) -> Result<Bump, OpsError> {
        let newest = self
            .show_component(component)
            .await?
            .pop()
            .ok_or_else(|| OpsError::UnknownComponent(component.clone()))?;
        let change = LayerChange {
            configuration: configuration.clone(),
            channel: channel.clone(),
            layer: LayerReference {
                component: component.clone(),
                version: newest.version,
            },
        };
        let before = self.layer_version(&change).await?;
        let outcome = self.change_configuration(&change, reason).await?;
        let shown = outcome.before.as_ref().map(|shown| &shown.release.layers);
        let mut layers = shown.into_iter().flatten();
        let previous = layers
            .find(|layer| layer.component == *component)
            .map_or(before, |layer| layer.version.clone());
        Ok(Bump {
            outcome,
            version: change.layer.version,
            previous,
        })
    }

    /// Returns the version that the layer to change is now.
    async fn layer_version(&self, change: &LayerChange) -> Result<Version, OpsError> {
        let shown = self
            .show_configuration(&change.configuration, &change.channel)
            .await?;
        let mut layers = shown.release.layers.into_iter();
        layers
            .find(|layer| layer.component == change.layer.component)
            .map(|layer| layer.version)
            .ok_or_else(|| no_such_layer(change))
    }
}

pub(super) fn check_unique<'a>(
    components: impl Iterator<Item = &'a ComponentName>,
) -> Result<(), OpsError> {
    let mut seen = BTreeSet::new();
    for component in components {
        if !seen.insert(component) {
            return Err(OpsError::DuplicateComponent(component.clone()));
        }
    }
    Ok(())
}

fn no_such_layer(change: &LayerChange) -> OpsError {
    OpsError::NoSuchLayer {
        configuration: change.configuration.clone(),
        component: change.layer.component.clone(),
    }
}

/// Layers are the same where name, version and content are; when a version was made does not
/// change what is deployed.
pub(super) fn same_layers(left: &[ReleaseLayer], right: &[ReleaseLayer]) -> bool {
    let key = |layer: &ReleaseLayer| (layer.reference(), layer.digest.clone());
    left.iter().map(key).eq(right.iter().map(key))
}

/// Returns this machine's architecture as images name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
