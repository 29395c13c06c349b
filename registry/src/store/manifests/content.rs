//! Whether what a manifest is made of is there.

use deploy_spec::{Descriptor, Digest, Outline, RepositoryName};
use futures::{StreamExt as _, TryStreamExt as _};

use super::ManifestRecord;
use crate::store::{Store, error::StoreError, keys};

/// Content that is looked for at the same time while a manifest is checked.
const CHECK_AT_ONCE: usize = 16;

impl Store {
    /// Checks that what the manifest is made of is there, and returns how much of it is not.
    ///
    /// A manifest may be sparse: some layers of an image, some manifests of an index need not
    /// be there, nor layers that are to be had elsewhere (`urls`), nor a subject. But where the
    /// configuration is missing, or all of the rest is, the pusher forgot to push.
    pub(super) async fn check_content(
        &self,
        repository: &RepositoryName,
        outline: &Outline,
    ) -> Result<usize, StoreError> {
        let local = |descriptor: &&Descriptor| (descriptor.urls.as_ref()).is_none_or(Vec::is_empty);
        let parts: Vec<&Descriptor> = match outline.is_index() {
            true => outline.manifests.iter().collect(),
            false => outline.layers.iter().filter(local).collect(),
        };
        let missing_config = match &outline.config {
            Some(config) if !self.has_blob(repository, &config.digest).await? => {
                Some(&config.digest)
            }
            _ => None,
        };
        let looks = parts
            .iter()
            .map(|part| self.look_for(repository, outline, part.digest.clone()));
        let missing: Vec<Digest> = futures::stream::iter(looks.collect::<Vec<_>>())
            .buffered(CHECK_AT_ONCE)
            .try_filter_map(|missing| async move { Ok(missing) })
            .try_collect()
            .await?;
        if missing_config.is_some() || (!parts.is_empty() && missing.len() == parts.len()) {
            let all = missing_config.cloned().into_iter().chain(missing);
            return Err(StoreError::ContentMissing(all.collect()));
        }
        Ok(missing.len())
    }

    /// Returns the digest of a part of the manifest where that part is missing.
    async fn look_for(
        &self,
        repository: &RepositoryName,
        outline: &Outline,
        digest: Digest,
    ) -> Result<Option<Digest>, StoreError> {
        let there = match outline.is_index() {
            true => self.has_manifest(repository, &digest).await?,
            false => self.has_blob(repository, &digest).await?,
        };
        Ok((!there).then_some(digest))
    }

    async fn has_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let key = keys::manifest(repository, digest);
        match self.rely::<ManifestRecord>(&key).await {
            Err(StoreError::Damaged { .. }) => Ok(false),
            found => Ok(found?.is_some()),
        }
    }
}
