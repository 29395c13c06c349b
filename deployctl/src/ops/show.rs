//! What there is: components and their versions, configurations and what they are made of.

use deploy_spec::{
    Channel, ComponentName, ConfigurationName, Digest, RepositoryName, Tag, Version, name::Owned,
};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;

use super::{OpsError, Project, Shown, version::PARALLEL};

/// A version of a component, in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownVersion {
    /// The version.
    pub version: Version,
    /// When it was made; what other clients push need not say.
    pub created: Option<Timestamp>,
    /// The revision of the source that it was built from.
    pub revision: Option<String>,
    /// Digest of its archive.
    pub digest: Digest,
    /// Size of its archive in bytes.
    pub size: u64,
}

impl Project {
    /// Returns the release that a channel of a configuration is.
    ///
    /// # Errors
    /// [`OpsError::UnknownConfiguration`], [`OpsError::UnknownChannel`],
    /// [`OpsError::NotARelease`], [`OpsError::Client`].
    pub async fn show_configuration(
        &self,
        configuration: &ConfigurationName,
        channel: &Channel,
    ) -> Result<Shown, OpsError> {
        if let Some(shown) = self
            .find_release(configuration, &Tag::from(channel))
            .await?
        {
            return Ok(shown);
        }
        let tags = self.configuration(configuration).tags().await?;
        Err(match tags.is_empty() {
            true => OpsError::UnknownConfiguration(configuration.clone()),
            false => OpsError::UnknownChannel {
                configuration: configuration.clone(),
                channel: channel.clone(),
            },
        })
    }

    /// Returns the versions of a component, oldest first; those of one second, and those that
    /// do not say when they were made (first of all), by name. Tags that are no component
    /// version are passed over, unless none of them is one.
    ///
    /// # Errors
    /// [`OpsError::UnknownComponent`], [`OpsError::Client`].
    pub async fn show_component(
        &self,
        component: &ComponentName,
    ) -> Result<Vec<ShownVersion>, OpsError> {
        let versions = self.versions(component).await?;
        let mut shown: Vec<_> = versions
            .into_iter()
            .map(|version| ShownVersion {
                version: version.version,
                created: version.created,
                revision: version.revision,
                digest: version.layer.digest,
                size: version.layer.size,
            })
            .collect();
        shown.sort_by(|left, right| {
            (left.created, &left.version).cmp(&(right.created, &right.version))
        });
        Ok(shown)
    }

    /// Returns the names of all components, sorted bytewise.
    ///
    /// # Errors
    /// [`OpsError::Client`]; the registry has to have a catalog.
    pub async fn components(&self) -> Result<Vec<ComponentName>, OpsError> {
        self.owned(|owned| match owned {
            Owned::Component(name) => Some(name),
            Owned::Configuration(_) => None,
        })
        .await
    }

    /// Returns the names of all configurations, sorted bytewise.
    ///
    /// # Errors
    /// [`OpsError::Client`]; the registry has to have a catalog.
    pub async fn configurations(&self) -> Result<Vec<ConfigurationName>, OpsError> {
        self.owned(|owned| match owned {
            Owned::Configuration(name) => Some(name),
            Owned::Component(_) => None,
        })
        .await
    }

    /// Registries keep listing a repository whose last tag is gone: only those with tags count.
    async fn owned<T: Ord>(&self, wanted: impl Fn(Owned) -> Option<T>) -> Result<Vec<T>, OpsError> {
        let repositories = self.registry.repositories().await?;
        let of_us = |repository: RepositoryName| {
            let name = wanted(self.prefix.split(&repository)?)?;
            Some((repository, name))
        };
        let mut names: Vec<T> = stream::iter(repositories.into_iter().filter_map(of_us))
            .map(|(repository, name)| async move {
                let tags = self.registry.repository(repository).tags().await?;
                Ok::<_, OpsError>((!tags.is_empty()).then_some(name))
            })
            .buffer_unordered(PARALLEL)
            .try_filter_map(|name| async { Ok(name) })
            .try_collect()
            .await?;
        names.sort();
        Ok(names)
    }
}
