//! The blobs of a round: what no repository has goes, with its bytes. Remembers what data the
//! records of all others name.

use super::{Event, Judged, Kind, Need, Outcome, Round, all_of};
use crate::store::{
    blobs::BlobRecord,
    error::StoreError,
    keys::{self, DataId},
    objects::Entry,
    state::Found,
};

/// What a record says, as far as it concerns others.
enum Named {
    Data(Option<DataId>),
    Unknown,
}

impl Round<'_> {
    /// Sweeps the records of blobs. Call it when all repositories are swept.
    pub(super) async fn records(&mut self) -> Result<(), StoreError> {
        let mut listing = self.listing(&keys::blobs());
        while let Some(batch) = self.next_batch(&mut listing).await? {
            let steps = batch.iter().map(|entry| self.step_record(entry)).collect();
            for named in all_of(steps).await? {
                match named {
                    Named::Data(data) => {
                        let hash = data.map(|data| self.hash(&data));
                        self.data.extend(hash);
                    }
                    Named::Unknown => self.data_unknown = true,
                }
            }
        }
        Ok(())
    }

    async fn step_record(&self, entry: &Entry) -> Result<Named, StoreError> {
        let Some(digest) = keys::blob_of(&entry.key) else {
            return Ok(Named::Data(None));
        };
        self.pace().read().await?;
        let seen = match self.store.find::<BlobRecord>(&entry.key).await? {
            Found::Nothing => return Ok(Named::Data(None)),
            Found::Object(seen) => seen,
            Found::Damaged { .. } => {
                self.progress.add_unreadable();
                return Ok(Named::Unknown);
            }
        };
        let hash = self.hash(&digest);
        let need = match () {
            () if self.needed.contains(&hash) => Need::Needed,
            () if self.held.contains(&hash) => Need::Held,
            () => Need::Free,
        };
        let (size, data) = (seen.header.size, seen.header.data.clone());
        self.progress.count(Kind::Blobs, Event::Found, size);
        let key = data.as_ref().map(DataId::key);
        let judged = Judged {
            need,
            created: seen.header.created,
            size,
            data: key.as_ref(),
        };
        let _: Outcome = self.step(Kind::Blobs, &entry.key, seen, judged).await?;
        // Of what just went as well: its data went with it, or goes with whoever doomed it.
        Ok(Named::Data(data))
    }
}
