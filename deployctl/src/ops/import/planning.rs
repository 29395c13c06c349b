//! How much of an image the registry has, and what is to be done about the rest.

use std::collections::{BTreeMap, BTreeSet};

use deploy_spec::{ComponentName, ComponentVersion, ConfigurationName, Digest, LayerReference};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    super::{OpsError, Project, compose::check_unique, version::PARALLEL},
    ImageLayer, PlannedLayer, Standing,
};
use crate::{
    archive::ArchiveError,
    client::{Content, Repository},
};

impl Project {
    /// Finds out how much of an image's layers the registry has, and which component versions
    /// they are: those that were asked for where they exist, or others of the same content that
    /// a configuration uses. Changes nothing.
    ///
    /// `others` are the components that the release is to have beside.
    ///
    /// # Errors
    /// [`OpsError::NoLayers`], [`OpsError::DuplicateComponent`], [`OpsError::VersionExists`],
    /// [`OpsError::Archive`] for a layer that contradicts what is there, [`OpsError::Client`].
    pub async fn plan_import(
        &self,
        configuration: &ConfigurationName,
        layers: Vec<ImageLayer>,
        others: &[LayerReference],
    ) -> Result<Vec<PlannedLayer>, OpsError> {
        if layers.is_empty() {
            return Err(OpsError::NoLayers);
        }
        let own = layers.iter().map(|layer| &layer.reference);
        let components = own.chain(others).map(|reference| &reference.component);
        check_unique(components.clone())?;
        let mut taken: BTreeSet<ComponentName> = components.cloned().collect();
        let found: Vec<_> = stream::iter(layers.iter().map(|layer| layer.reference.clone()))
            .map(|reference| async move { self.find_version(&reference).await })
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let shared = match found.iter().all(Option::is_some) {
            true => BTreeMap::new(),
            // Only saves a second version of what there is.
            false => self.versions_in_use().await.unwrap_or_else(|error| {
                tracing::debug!(%error, "component versions are not shared");
                BTreeMap::new()
            }),
        };
        let mut planned: Vec<PlannedLayer> = Vec::with_capacity(layers.len());
        let mut first: BTreeMap<Digest, ComponentName> = BTreeMap::new();
        for (layer, own) in layers.into_iter().zip(found) {
            let digest = &layer.layer.digest;
            let version = match own {
                Some(own) if own.layer.digest == *digest => Some(own),
                Some(own) => {
                    return Err(OpsError::VersionExists {
                        component: layer.reference.component,
                        version: layer.reference.version,
                        existing: own.layer.digest,
                    });
                }
                None => {
                    let candidates = shared.get(digest).into_iter().flatten();
                    self.find_shared(&layer, candidates, &mut taken).await?
                }
            };
            let standing = match (version, first.get(digest)) {
                (Some(version), _) => {
                    check_diff_id(&layer, &version)?;
                    Standing::Version(Box::new(version))
                }
                (None, Some(twin)) => Standing::Repeated(self.component(twin)),
                (None, None) => {
                    first.insert(digest.clone(), layer.reference.component.clone());
                    Standing::Missing
                }
            };
            planned.push(PlannedLayer { layer, standing });
        }
        let target = &self.configuration(configuration);
        stream::iter(planned)
            .map(|planned| self.look_for_bytes(planned, target))
            .buffered(PARALLEL)
            .try_collect()
            .await
    }

    async fn find_shared(
        &self,
        layer: &ImageLayer,
        candidates: impl Iterator<Item = &LayerReference>,
        taken: &mut BTreeSet<ComponentName>,
    ) -> Result<Option<ComponentVersion>, OpsError> {
        for candidate in candidates {
            if taken.contains(&candidate.component) {
                continue;
            }
            // It may be gone from the component, or be no component version after all.
            let Ok(Some(found)) = self.find_version(candidate).await else {
                continue;
            };
            if found.layer.digest == layer.layer.digest
                && found.layer.announced_compression() == layer.layer.announced_compression()
            {
                taken.insert(candidate.component.clone());
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn look_for_bytes(
        &self,
        mut planned: PlannedLayer,
        target: &Repository,
    ) -> Result<PlannedLayer, OpsError> {
        if let Standing::Version(_) = planned.standing {
            return Ok(planned);
        }
        let digest = &planned.layer.layer.digest;
        let repository = self.component(&planned.layer.reference.component);
        if repository.blob_size(digest).await?.is_some() {
            planned.standing = Standing::Stored;
        } else if let Standing::Missing = planned.standing {
            if let Content::Blob {
                repository: from, ..
            } = &planned.layer.content
                && from.shares_registry_with(&repository)
            {
                planned.standing = Standing::Elsewhere(from.clone());
            } else if target.blob_size(digest).await?.is_some() {
                planned.standing = Standing::Elsewhere(target.clone());
            }
        }
        Ok(planned)
    }
}

fn check_diff_id(layer: &ImageLayer, version: &ComponentVersion) -> Result<(), OpsError> {
    match (&layer.layer.diff_id, &version.layer.diff_id) {
        (Some(expected), Some(found))
            if expected.algorithm() == found.algorithm() && expected != found =>
        {
            Err(OpsError::Archive {
                what: layer.reference.to_string(),
                source: ArchiveError::DiffId {
                    expected: expected.clone(),
                    found: found.clone(),
                },
            })
        }
        _ => Ok(()),
    }
}
