//! What shall no longer be: versions, components, configurations. Content is left to the
//! registry's own collection; only names are taken away.

use deploy_spec::{
    ComponentName, ConfigurationName, Digest, LayerReference, Reference, ReleaseNumber, Tag,
};

use super::{OpsError, Project};
use crate::client::{ClientError, Repository};

impl Project {
    /// Deletes a version of a component.
    ///
    /// # Errors
    /// [`OpsError::UnknownComponent`], [`OpsError::UnknownVersion`],
    /// [`OpsError::VersionInUse`], [`OpsError::SharedManifest`], [`OpsError::Client`].
    pub async fn delete_version(&self, reference: &LayerReference) -> Result<(), OpsError> {
        let repository = self.component(&reference.component);
        let tag = Tag::from(&reference.version);
        let head = repository
            .manifest_head(&Reference::Tag(tag.clone()))
            .await?;
        if head.is_none() {
            return Err(self.unknown_version(reference).await);
        }
        self.check_unused(&reference.component, Some(&reference.version))
            .await?;
        match untag(&repository, &tag).await? {
            true => Ok(()),
            false => Err(self.unknown_version(reference).await),
        }
    }

    /// Deletes all versions of a component and returns how many there were.
    ///
    /// # Errors
    /// [`OpsError::UnknownComponent`], [`OpsError::VersionInUse`], [`OpsError::Client`].
    pub async fn delete_component(&self, component: &ComponentName) -> Result<usize, OpsError> {
        let repository = self.component(component);
        let tags = repository.tags().await?;
        if tags.is_empty() {
            return Err(OpsError::UnknownComponent(component.clone()));
        }
        self.check_unused(component, None).await?;
        delete_all(&repository, &tags).await?;
        Ok(tags.len())
    }

    /// Deletes a configuration with all its releases and returns how many tags there were.
    ///
    /// # Errors
    /// [`OpsError::UnknownConfiguration`], [`OpsError::Client`].
    pub async fn delete_configuration(
        &self,
        configuration: &ConfigurationName,
    ) -> Result<usize, OpsError> {
        let repository = self.configuration(configuration);
        let mut tags = repository.tags().await?;
        if tags.is_empty() {
            return Err(OpsError::UnknownConfiguration(configuration.clone()));
        }
        // Channels first: whoever follows one finds all of it or nothing.
        tags.sort_by_key(|tag| tag.as_str().parse::<ReleaseNumber>().ok());
        delete_all(&repository, &tags).await?;
        Ok(tags.len())
    }
}

/// Deletes every one of these tags, by digest where the registry deletes no tags: all of them
/// shall go, so that it does no harm that one takes others with it.
async fn delete_all(repository: &Repository, tags: &[Tag]) -> Result<(), OpsError> {
    for tag in tags {
        let reference = Reference::Tag(tag.clone());
        match repository.delete_manifest(&reference).await {
            Err(ClientError::Unsupported { .. }) => {}
            result => {
                result?;
                continue;
            }
        }
        if let Some(head) = repository.manifest_head(&reference).await? {
            delete_digest(repository, head.digest).await?;
        }
    }
    Ok(())
}

/// Deletes a tag and nothing but it. Returns whether it was there.
async fn untag(repository: &Repository, tag: &Tag) -> Result<bool, OpsError> {
    let reference = Reference::Tag(tag.clone());
    match repository.delete_manifest(&reference).await {
        Err(ClientError::Unsupported { .. }) => {}
        result => return Ok(result?),
    }
    let Some(head) = repository.manifest_head(&reference).await? else {
        return Ok(false);
    };
    for other in repository
        .tags()
        .await?
        .into_iter()
        .filter(|other| other != tag)
    {
        let found = repository
            .manifest_head(&Reference::Tag(other.clone()))
            .await?;
        if found.is_some_and(|found| found.digest == head.digest) {
            return Err(OpsError::SharedManifest {
                repository: repository.name().to_string(),
                tag: tag.clone(),
                other,
            });
        }
    }
    delete_digest(repository, head.digest).await
}

async fn delete_digest(repository: &Repository, digest: Digest) -> Result<bool, OpsError> {
    Ok(repository
        .delete_manifest(&Reference::Digest(digest))
        .await?)
}
