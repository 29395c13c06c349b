//! Which configurations use a version of a component. Asked before anything is deleted, and by
//! importers, which use what is there already.

use std::collections::{BTreeMap, BTreeSet};

use deploy_spec::{
    ComponentName, ConfigurationName, Descriptor, Digest, LayerReference, Outline, Reference,
    ReleaseNumber, Tag, Version, annotation,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{OpsError, Project, version::PARALLEL};

impl Project {
    /// Makes sure that no channel of any configuration uses this version of a component, or
    /// any version of it where none is given. Releases that no channel points to do not count:
    /// their layers stay in the configuration's own repository.
    ///
    /// # Errors
    /// [`OpsError::VersionInUse`] for the first configuration by name.
    pub(super) async fn check_unused(
        &self,
        component: &ComponentName,
        version: Option<&Version>,
    ) -> Result<(), OpsError> {
        let configurations = self.configurations().await?;
        let mut checks = stream::iter(configurations)
            .map(|configuration| self.check_unused_by(configuration, component, version))
            .buffered(PARALLEL);
        while checks.try_next().await?.is_some() {}
        Ok(())
    }

    async fn check_unused_by(
        &self,
        configuration: ConfigurationName,
        component: &ComponentName,
        version: Option<&Version>,
    ) -> Result<(), OpsError> {
        for channel in self.channels(&configuration).await? {
            // What cannot be read as a manifest has no layers with names.
            let outline = self.outline(&configuration, &channel).await?;
            if let Some(reference) = outline.and_then(|found| used_in(&found, component, version)) {
                return Err(OpsError::VersionInUse {
                    reference,
                    configuration,
                    channel,
                });
            }
        }
        Ok(())
    }

    /// Returns the component versions that the channels of all configurations name, by the
    /// digest of their archives. A configuration that cannot be read has none.
    ///
    /// # Errors
    /// [`OpsError::Client`] where the registry does not list its repositories.
    pub(super) async fn versions_in_use(
        &self,
    ) -> Result<BTreeMap<Digest, BTreeSet<LayerReference>>, OpsError> {
        let configurations = self.configurations().await?;
        let mut found = stream::iter(configurations)
            .map(|configuration| async move {
                let mut layers = Vec::new();
                for channel in self.channels(&configuration).await? {
                    let outline = self.outline(&configuration, &channel).await?;
                    let named = outline.into_iter().flat_map(|found| found.layers);
                    layers.extend(named.filter_map(|layer| {
                        let reference = reference(&layer)?;
                        Some((layer.digest, reference))
                    }));
                }
                Ok::<_, OpsError>(layers)
            })
            .buffer_unordered(PARALLEL);
        let mut versions: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        while let Some(layers) = found.next().await {
            match layers {
                Ok(layers) => {
                    for (digest, reference) in layers {
                        versions.entry(digest).or_default().insert(reference);
                    }
                }
                Err(error) => tracing::debug!(%error, "passing over a configuration"),
            }
        }
        Ok(versions)
    }

    /// Returns the tags of a configuration that are no numbers.
    async fn channels(&self, configuration: &ConfigurationName) -> Result<Vec<Tag>, OpsError> {
        let mut tags = self.configuration(configuration).tags().await?;
        tags.retain(|tag| tag.as_str().parse::<ReleaseNumber>().is_err());
        Ok(tags)
    }

    /// Returns the outline of what a channel is; nothing where that is no manifest.
    async fn outline(
        &self,
        configuration: &ConfigurationName,
        channel: &Tag,
    ) -> Result<Option<Outline>, OpsError> {
        let repository = self.configuration(configuration);
        let manifest = repository
            .manifest(&Reference::Tag(channel.clone()))
            .await?;
        Ok(manifest.and_then(|found| Outline::parse(None, &found.bytes).ok()))
    }
}

/// Returns the component version that a layer of a release says it is.
fn reference(layer: &Descriptor) -> Option<LayerReference> {
    Some(LayerReference {
        component: layer.annotation(annotation::COMPONENT)?.parse().ok()?,
        version: (layer.annotation(annotation::COMPONENT_VERSION)?)
            .parse()
            .ok()?,
    })
}

fn used_in(
    outline: &Outline,
    component: &ComponentName,
    version: Option<&Version>,
) -> Option<LayerReference> {
    let mut layers = outline.layers.iter().filter_map(reference);
    layers.find(|found| {
        found.component == *component && version.is_none_or(|version| *version == found.version)
    })
}
