//! Removing a manifest with its tags.

use deploy_spec::{Digest, RepositoryName};
use futures::TryStreamExt as _;

use crate::store::{
    Store,
    change::{Change, Changes},
    error::StoreError,
    keys,
};

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
        (self.delete_manifest_noting(repository, digest, &Changes::default())).await
    }

    /// As [`Store::delete_manifest`], and notes what it changed, also where it fails half way.
    ///
    /// # Errors
    /// As there.
    pub async fn delete_manifest_noting(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        let _guard = self.lock_for_deleting(repository).await;
        let unknown = || StoreError::ManifestUnknown(digest.to_string());
        let subject = match self.read_manifest(repository, digest).await {
            Ok(found) => found.ok_or_else(unknown)?.subject,
            // A damaged one must not stay for ever.
            Err(StoreError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        self.remove_tags_of(repository, digest, changes).await?;
        let key = keys::manifest(repository, digest);
        self.objects().remove(&key).await?;
        changes.note(Change::ManifestDeleted(digest.clone()));
        if !self.objects().is_exclusive() {
            // Of a pusher elsewhere that looked before.
            self.remove_tags_of(repository, digest, changes).await?;
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
        changes: &Changes,
    ) -> Result<(), StoreError> {
        let mut tags = self.judge_tags(repository).await?;
        tags.retain(|judged| judged.record.digest == *digest);
        futures::stream::iter(tags.into_iter().map(Ok))
            .try_for_each_concurrent(REMOVE_AT_ONCE, |judged| async move {
                let tag = judged.tag.clone();
                if self.retire_tag(repository, judged).await? {
                    let before = Some(digest.clone());
                    changes.note(Change::TagDeleted { tag, before });
                }
                Ok(())
            })
            .await
    }
}
