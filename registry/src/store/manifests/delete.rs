//! Removing a manifest with its tags.

use deploy_spec::{Digest, RepositoryName};
use futures::TryStreamExt as _;

use crate::store::{Store, error::StoreError, keys};

/// Tags that are removed at the same time.
const REMOVE_AT_ONCE: usize = 16;

impl Store {
    /// Removes the manifest with all its tags, durably.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`] where there is none.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let _guard = self.lock_for_deleting(repository).await;
        let unknown = || StoreError::ManifestUnknown(digest.to_string());
        let subject = match self.read_manifest(repository, digest).await {
            Ok(found) => found.ok_or_else(unknown)?.subject,
            // A damaged one must not stay for ever.
            Err(StoreError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        self.remove_tags_of(repository, digest).await?;
        let key = keys::manifest(repository, digest);
        self.objects().remove(&key).await?;
        if !self.objects().is_exclusive() {
            // Of a pusher elsewhere that looked before.
            self.remove_tags_of(repository, digest).await?;
        }
        if let Some(subject) = subject
            && self.objects().size(&key).await?.is_none()
        {
            self.objects()
                .remove(&keys::referrer(repository, &subject, digest))
                .await?;
        }
        self.leave_repository(repository).await
    }

    /// Removes the tags of a manifest, unless they move meanwhile.
    async fn remove_tags_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let mut tags = self.judge_tags(repository).await?;
        tags.retain(|judged| judged.record.digest == *digest);
        futures::stream::iter(tags.into_iter().map(Ok))
            .try_for_each_concurrent(REMOVE_AT_ONCE, |judged| async move {
                self.retire_tag(repository, judged).await.map(drop)
            })
            .await
    }
}
