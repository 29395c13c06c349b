//! Tags: one object each, moved by one write. The storage side of the tag list, of manifests
//! by tag, and of tag deletion.

use bytes::Bytes;
use deploy_spec::{Digest, RepositoryName, Tag};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::{PutPayload, path::Path};
use serde::{Deserialize, Serialize};

use super::{
    Page, Store,
    change::{Change, Changes},
    error::StoreError,
    keys,
    manifests::Condition,
    markers::Marker,
    objects::Created,
    record,
    state::{Collectable, Found, Seen, Standing, State},
    take_page,
};

/// Tags that are read at the same time while one looks through all of a repository.
const READ_AT_ONCE: usize = 16;

/// The object of a tag.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TagHeader {
    digest: Digest,
    media_type: String,
    size: u64,
    moved: Timestamp,
    #[serde(default, skip_serializing_if = "State::is_live")]
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

impl Collectable for TagHeader {
    fn standing(&self) -> Standing {
        Standing {
            state: self.state,
            since: self.since,
        }
    }

    fn set_standing(&mut self, standing: Standing) {
        (self.state, self.since) = (standing.state, standing.since);
    }

    fn encode(&self, body: Bytes) -> PutPayload {
        match self.state {
            State::Doomed => {
                let mut marker = Marker::default();
                marker.set_standing(self.standing());
                marker.encode(body)
            }
            State::Live | State::Condemned => record::encode(self, [body]),
        }
    }

    fn decode(key: &Path, object: &Bytes) -> Result<(Self, Bytes), StoreError> {
        if object.len() as u64 > DOOMED_MAX {
            return record::decode(key, object);
        }
        let (marker, body) = Marker::decode(key, object)?;
        match marker.standing() {
            standing if standing.state == State::Doomed => Ok((Self::doomed(standing), body)),
            _ => Err(StoreError::Damaged {
                key: key.to_string(),
                reason: "it means nothing".to_owned(),
            }),
        }
    }
}

impl TagHeader {
    /// Returns what is left of a doomed tag, which means nothing any more.
    fn doomed(standing: Standing) -> Self {
        Self {
            digest: Digest::sha256(b""),
            media_type: String::new(),
            size: 0,
            moved: Timestamp::UNIX_EPOCH,
            state: standing.state,
            since: standing.since,
        }
    }

    fn new(record: &TagRecord) -> Self {
        Self {
            digest: record.digest.clone(),
            media_type: record.media_type.clone(),
            size: record.size,
            moved: record.moved,
            state: State::Live,
            since: None,
        }
    }

    /// Returns the manifest that it means.
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }

    fn record(&self) -> TagRecord {
        TagRecord {
            digest: self.digest.clone(),
            media_type: self.media_type.clone(),
            size: self.size,
            moved: self.moved,
        }
    }
}

/// A tag as it was read, so that it can be removed only where it still is so.
#[derive(Debug)]
pub(crate) struct JudgedTag {
    pub(crate) tag: Tag,
    pub(crate) record: TagRecord,
    seen: Seen<TagHeader>,
}

/// A doomed tag is no larger than this, and every other one is: lists, which see sizes alone,
/// pass over it.
const DOOMED_MAX: u64 = 96;

/// What a tag means.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        let found = self.look::<TagHeader>(&keys::tag(repository, tag)).await?;
        Ok(found.map(|seen| seen.header.record()))
    }

    /// Lets the tag mean the manifest, where the condition holds, and notes what it meant. On
    /// return it is durable. A tag that means it already stays as it is.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] where it does not hold.
    pub(super) async fn move_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        record: &TagRecord,
        condition: &Condition,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        let key = keys::tag(repository, tag);
        let payload = TagHeader::new(record).encode(Bytes::new());
        loop {
            let (current, doomed) = match self.find::<TagHeader>(&key).await? {
                Found::Nothing => (None, None),
                Found::Object(seen) if seen.header.standing().state == State::Doomed => {
                    (None, Some(seen))
                }
                Found::Object(seen) => (Some(seen), None),
                Found::Damaged { error, .. } => return Err(error),
            };
            let digest = current.as_ref().map(|seen| seen.header.digest.clone());
            if !condition.holds(digest.as_ref()) {
                return Err(StoreError::ConditionFailed { current: digest });
            }
            let moved = match (current, doomed) {
                (Some(seen), _)
                    if seen.header.digest == record.digest
                        && seen.header.media_type == record.media_type =>
                {
                    return Ok(());
                }
                (Some(seen), _) => {
                    let update = self.objects().update(&key, payload.clone(), seen.version);
                    update.await?
                }
                (None, Some(seen)) => self.replace_doomed(&key, seen, &payload).await?,
                (None, None) => {
                    let created = self.objects().create_own(&key, payload.clone());
                    created.await? == Created::New
                }
            };
            if moved {
                if digest.as_ref() != Some(&record.digest) {
                    changes.note(Change::TagMoved {
                        tag: tag.clone(),
                        before: digest,
                        after: record.digest.clone(),
                    });
                }
                self.watches().announce(repository, tag);
                return Ok(());
            }
        }
    }

    /// Writes a tag once more that was just moved: somebody may be about to remove it, together
    /// with a manifest that has come back. Where it means something else by now, it stays so.
    pub(super) async fn renew_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        record: &TagRecord,
    ) -> Result<(), StoreError> {
        let key = keys::tag(repository, tag);
        let record = TagRecord {
            moved: self.now(),
            ..record.clone()
        };
        let payload = TagHeader::new(&record).encode(Bytes::new());
        loop {
            let renewed = match self.find::<TagHeader>(&key).await? {
                Found::Nothing => {
                    self.objects().create(&key, payload.clone()).await? == Created::New
                }
                Found::Object(seen) if seen.header.standing().state == State::Doomed => {
                    self.replace_doomed(&key, seen, &payload).await?
                }
                Found::Object(seen) if seen.header.digest == record.digest => {
                    let update = self.objects().update(&key, payload.clone(), seen.version);
                    update.await?
                }
                Found::Object(_) => return Ok(()),
                Found::Damaged { error, .. } => return Err(error),
            };
            if renewed {
                self.watches().announce(repository, tag);
                return Ok(());
            }
        }
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
        (self.delete_tag_noting(repository, tag, &Changes::default())).await
    }

    /// As [`Store::delete_tag`], and notes what it changed.
    ///
    /// # Errors
    /// As there.
    pub async fn delete_tag_noting(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        let key = keys::tag(repository, tag);
        let before = match self.look::<TagHeader>(&key).await {
            Ok(None) => return Err(StoreError::ManifestUnknown(tag.to_string())),
            Ok(Some(seen)) => Some(seen.header.digest),
            // A damaged one must not stay for ever.
            Err(StoreError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        self.objects().remove(&key).await?;
        changes.note(Change::TagDeleted {
            tag: tag.clone(),
            before,
        });
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
        let listing =
            self.objects()
                .list_larger(&keys::tags(repository), after.as_ref(), DOOMED_MAX);
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
        let judged = self.judge_tags(repository).await?;
        Ok(judged
            .into_iter()
            .map(|judged| (judged.tag, judged.record))
            .collect())
    }

    /// Returns every tag of the repository, in no particular order, for [`Store::retire_tag`].
    pub(crate) async fn judge_tags(
        &self,
        repository: &RepositoryName,
    ) -> Result<Vec<JudgedTag>, StoreError> {
        self.objects()
            .list(&keys::tags(repository), None)
            .try_filter_map(|key| async move { Ok(keys::tag_of(&key)) })
            .map(|tag| async {
                let tag = tag?;
                let key = keys::tag(repository, &tag);
                let seen = self.look::<TagHeader>(&key).await?;
                Ok(seen.map(|seen| JudgedTag {
                    tag,
                    record: seen.header.record(),
                    seen,
                }))
            })
            .buffer_unordered(READ_AT_ONCE)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await
    }

    /// Removes the tag where it still is as it was read; false where it is not. Durable.
    pub(crate) async fn retire_tag(
        &self,
        repository: &RepositoryName,
        judged: JudgedTag,
    ) -> Result<bool, StoreError> {
        let key = keys::tag(repository, &judged.tag);
        let retired = self.retire(&key, judged.seen, None).await?;
        if retired {
            self.watches().announce(repository, &judged.tag);
        }
        Ok(retired)
    }
}
