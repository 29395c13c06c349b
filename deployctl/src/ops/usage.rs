//! Which configurations use a version of a component. Asked before anything is deleted.

use deploy_spec::{
    ComponentName, ConfigurationName, LayerReference, Outline, Reference, ReleaseNumber, Version,
    annotation,
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
        let repository = self.configuration(&configuration);
        for tag in repository.tags().await? {
            if tag.as_str().parse::<ReleaseNumber>().is_ok() {
                continue;
            }
            let manifest = repository.manifest(&Reference::Tag(tag.clone())).await?;
            // What cannot be read as a manifest has no layers with names.
            let outline = manifest.and_then(|found| Outline::parse(None, &found.bytes).ok());
            if let Some(reference) = outline.and_then(|found| used_in(&found, component, version)) {
                return Err(OpsError::VersionInUse {
                    reference,
                    configuration,
                    channel: tag,
                });
            }
        }
        Ok(())
    }
}

fn used_in(
    outline: &Outline,
    component: &ComponentName,
    version: Option<&Version>,
) -> Option<LayerReference> {
    outline.layers.iter().find_map(|layer| {
        let found: Version = layer
            .annotation(annotation::COMPONENT_VERSION)?
            .parse()
            .ok()?;
        let is_it = layer.annotation(annotation::COMPONENT)? == component.as_str()
            && version.is_none_or(|version| *version == found);
        is_it.then(|| LayerReference {
            component: component.clone(),
            version: found,
        })
    })
}
