//! What crashes leave behind, in a round: uploads that nobody finishes, data that nobody names,
//! entries of the catalog without a repository, empty directories.

use jiff::SignedDuration;
use object_store::path::Path;

use super::{Event, Kind, LITTER_AGE, Need, Others, Round, all_of};
use crate::store::{
    error::StoreError, keys, objects::Entry, quarantine::Quarantined, record,
    sessions::SessionOutline,
};

impl Round<'_> {
    /// Ends uploads that nobody finishes, and remembers the data of all others.
    ///
    /// Comes before the records are read: a session that is closed meanwhile hands its data
    /// over to a record that we see then, or to one whose data is too young to be litter.
    pub(super) async fn uploads(&mut self) -> Result<(), StoreError> {
        let expiry = self.collection.upload_expiry;
        let before = self
            .start
            .checked_sub(expiry)
            .unwrap_or(jiff::Timestamp::MIN);
        let mut expired = false;
        let mut listing = self.listing(&keys::uploads());
        while let Some(batch) = self.next_batch(&mut listing).await? {
            let outlines = batch.iter().map(|entry| self.outline(&entry.key)).collect();
            for outline in all_of(outlines).await?.into_iter().flatten() {
                self.progress
                    .count(Kind::Uploads, Event::Found, outline.bytes);
                if outline.touched < before {
                    self.progress
                        .count(Kind::Uploads, Event::Removed, outline.bytes);
                    expired = true;
                }
                for id in &outline.data {
                    let hash = self.hash(id);
                    self.data.insert(hash);
                }
            }
        }
        if expired && !self.is_dry() {
            self.store.expire_uploads(before).await?;
        }
        Ok(())
    }

    async fn outline(&self, key: &Path) -> Result<Option<SessionOutline>, StoreError> {
        self.pace().read().await?;
        self.store.outline_session(key).await
    }

    /// Remembers the data of what is set aside, and the repositories that lack such a manifest:
    /// until it is pushed again, what it needs must stay.
    pub(super) async fn quarantine(&mut self) -> Result<(), StoreError> {
        let mut listing = self.listing(&keys::quarantine());
        while let Some(batch) = self.next_batch(&mut listing).await? {
            for entry in batch {
                self.pace().read().await?;
                let Some(object) = self.store.objects().read(&entry.key).await? else {
                    continue;
                };
                let header = record::decode::<Quarantined>(&entry.key, &object.bytes);
                let Ok((header, _)) = header else {
                    self.data_unknown = true;
                    continue;
                };
                let data = header.data.as_ref().map(|id| self.hash(id));
                self.data.extend(data);
                if let Some(name) = &header.repository
                    && self.is_absent(&header.key).await?
                {
                    let hash = self.hash(name);
                    self.blind.insert(hash);
                }
            }
        }
        Ok(())
    }

    async fn is_absent(&self, key: &str) -> Result<bool, StoreError> {
        match Path::parse(key) {
            Ok(key) => Ok(self.store.objects().size(&key).await?.is_none()),
            Err(_) => Ok(false),
        }
    }

    /// Removes data that nobody names. Call it when all are read that may name some.
    ///
    /// Names of data are random and never used again, so nothing can be hit that came later.
    /// What is on its way to a record was written within the age, or its session names it; a
    /// pusher that stands still for longer looks again before it promises anything.
    pub(super) async fn litter(&self) -> Result<(), StoreError> {
        if self.data_unknown {
            return Ok(());
        }
        let age: SignedDuration = match self.collection.others {
            Others::Served => self.collection.grace.max(LITTER_AGE),
            Others::Offline => self.collection.grace,
        };
        let before = self.start.checked_sub(age).unwrap_or(jiff::Timestamp::MIN);
        let mut listing = self.listing(&keys::data());
        while let Some(batch) = self.next_batch(&mut listing).await? {
            let mut litter = Vec::new();
            for entry in &batch {
                let Some(id) = keys::data_of(&entry.key) else {
                    continue;
                };
                self.progress.count(Kind::Data, Event::Found, entry.size);
                if !self.data.contains(&self.hash(&id)) && entry.modified <= before {
                    litter.push(self.remove_data(entry));
                }
            }
            all_of(litter).await?;
        }
        Ok(())
    }

    async fn remove_data(&self, entry: &Entry) -> Result<(), StoreError> {
        if !self.is_dry() {
            self.pace().change().await?;
            self.store.data().forget(&entry.key).await?;
        }
        self.progress.count(Kind::Data, Event::Removed, entry.size);
        Ok(())
    }

    /// Removes entries of the catalog whose repositories have no manifests.
    pub(super) async fn catalog(&self) -> Result<(), StoreError> {
        let mut listing = self.listing(&keys::catalog_entries());
        while let Some(batch) = self.next_batch(&mut listing).await? {
            let mut steps = Vec::new();
            for entry in &batch {
                let Some(repository) = keys::repository_of(&entry.key) else {
                    continue;
                };
                let need = match self.repositories.contains(&self.hash(&repository)) {
                    true => Need::Needed,
                    false => Need::Free,
                };
                steps.push(self.step_marker(Kind::Catalog, entry, need));
            }
            all_of(steps).await?;
        }
        Ok(())
    }

    /// Removes directories that nothing is in any more.
    pub(super) async fn directories(&self) -> Result<(), StoreError> {
        if self.is_dry() {
            return Ok(());
        }
        let removed = self
            .store
            .objects()
            .remove_empty_directories(&keys::repositories())
            .await?;
        for _ in 0..removed {
            self.progress.count(Kind::Directories, Event::Removed, 0);
        }
        Ok(())
    }
}
