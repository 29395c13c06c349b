//! Tags: one object each, moved by one write. The storage side of the tag list, of manifests
//! by tag, and of tag deletion.

use deploy_spec::{Digest, RepositoryName, Tag};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Page, Store,
    error::StoreError,
    keys,
    manifests::Condition,
    objects::{Created, Version},
    record, take_page,
};

/// Tags that are read at the same time while one looks through all of a repository.
const READ_AT_ONCE: usize = 16;

/// What a tag means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRecord {
    /// The manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Since when the tag means it.
    pub moved: Timestamp,
}

impl Store {
    /// Returns what the tag means, or nothing where there is no such tag.
    pub async fn tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<TagRecord>, StoreError> {
        let found = self.read_tag(repository, tag).await?;
        Ok(found.map(|(record, _)| record))
    }

    async fn read_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<(TagRecord, Version)>, StoreError> {
        let key = keys::tag(repository, tag);
        let Some(object) = self.objects().read(&key).await? else {
            return Ok(None);
        };
        let (record, _) = record::decode(&key, &object.bytes)?;
        Ok(Some((record, object.version)))
    }

    /// Lets the tag mean the manifest, where the condition holds. On return it is durable.
    /// A tag that means it already stays as it is.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] where it does not hold.
    pub(super) async fn move_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        record: &TagRecord,
        condition: &Condition,
    ) -> Result<(), StoreError> {
        let key = keys::tag(repository, tag);
        let payload = record::encode(record, []);
        let current = self.read_tag(repository, tag).await?;
        let digest = current.as_ref().map(|(current, _)| current.digest.clone());
        if !condition.holds(digest.as_ref()) {
            return Err(StoreError::ConditionFailed { current: digest });
        }
        let done = match (current, condition) {
            (Some((current, _)), _)
                if current.digest == record.digest && current.media_type == record.media_type =>
            {
                return Ok(());
            }
            (_, Condition::None) => {
                self.objects().replace(&key, payload).await?;
                true
            }
            (Some((_, version)), _) => self.objects().update(&key, payload, version).await?,
            (None, _) => self.objects().create(&key, payload).await? == Created::New,
        };
        if !done {
            let current = self.tag(repository, tag).await?;
            return Err(StoreError::ConditionFailed {
                current: current.map(|current| current.digest),
            });
        }
        self.watches().announce(repository, tag);
        Ok(())
    }

    /// Removes the tag, durably; its manifest and other tags of it stay.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`] where there is none.
    pub async fn delete_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<(), StoreError> {
        let key = keys::tag(repository, tag);
        if self.objects().size(&key).await?.is_none() {
            return Err(StoreError::ManifestUnknown(tag.to_string()));
        }
        self.objects().remove(&key).await?;
        self.watches().announce(repository, tag);
        Ok(())
    }

    /// Returns up to `limit` tags of the repository in bytewise order, from behind `last`.
    ///
    /// # Errors
    /// [`StoreError::RepositoryUnknown`] where nothing was ever pushed under the name.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&Tag>,
        limit: usize,
    ) -> Result<Page<Tag>, StoreError> {
        let after = last.map(|last| keys::tag(repository, last));
        let listing = self.objects().list(&keys::tags(repository), after.as_ref());
        let tags = listing.try_filter_map(|key| async move { Ok(keys::tag_of(&key)) });
        let page = take_page(tags, limit).await?;
        if page.items.is_empty() && !self.is_repository(repository).await? {
            return Err(StoreError::RepositoryUnknown(repository.clone()));
        }
        Ok(page)
    }

    /// Returns every tag of the repository with what it means, in no particular order.
    pub async fn all_tags(
        &self,
        repository: &RepositoryName,
    ) -> Result<Vec<(Tag, TagRecord)>, StoreError> {
        self.objects()
            .list(&keys::tags(repository), None)
            .try_filter_map(|key| async move { Ok(keys::tag_of(&key)) })
            .map(|tag| async {
                let tag = tag?;
                let record = self.tag(repository, &tag).await?;
                Ok(record.map(|record| (tag, record)))
            })
            .buffer_unordered(READ_AT_ONCE)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await
    }
}
