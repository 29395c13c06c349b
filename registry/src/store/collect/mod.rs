//! Collection: removing what nobody needs any more while everybody goes on pushing and pulling.
//! One round marks and sweeps at once; what it finds unneeded it condemns, and what has been
//! condemned for the time of the grace, and is still unneeded, it removes (see `state`). Run by
//! `jobs`.
//!
//! ```text
//! uploads      those that nobody finishes end
//! repository   by repository: tags → manifests → what those need; manifests go, then markers
//! records      blobs that are in no repository go
//! litter       data without a blob, entries of the catalog without a repository
//! ```
//!
//! Nothing is ever locked, two rounds may run at once, and a round may end anywhere: every step
//! is one conditional write, and the next round finds what is left to do.
//!
//! What is needed is remembered as 64 bits of a keyed hash, about 20 bytes a blob for all blobs
//! and as much for those of the largest repository. Two that share a hash keep each other; the
//! key changes from round to round.

mod litter;
mod pace;
mod records;
mod report;
mod repository;

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, Hash, RandomState},
};

use deploy_spec::{RepositoryName, Tag};
use futures::{
    StreamExt as _,
    stream::{BoxStream, Chunks},
};
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;

pub use pace::Pace;
pub(crate) use report::Event;
pub use report::{Collected, Counts, Kind, Progress};

use super::{
    Store,
    error::StoreError,
    objects::Entry,
    state::{Collectable, Found, Seen, Standing, State},
};

/// Steps that are under way at the same time: a store far away answers late.
const AT_ONCE: usize = 8;
/// Entries of a listing that come with one request, at least.
const LISTED_AT_ONCE: usize = 256;
/// While somebody serves the store, data without a record may be a push under way: it is
/// litter after this time, however short the grace.
const LITTER_AGE: SignedDuration = SignedDuration::from_hours(1);

/// How a round of collection goes.
#[derive(Debug)]
pub struct Collection {
    /// How long what nobody needs is kept.
    pub grace: SignedDuration,
    /// Uploads that nothing arrives for are ended after this time.
    pub upload_expiry: SignedDuration,
    /// Whether it is done, or only said what would be.
    pub mode: Mode,
    /// Whether others may use the store meanwhile.
    pub others: Others,
    /// Tags that count as removed: those that a dry run of retention would remove.
    pub without_tags: HashSet<(RepositoryName, Tag)>,
    /// How fast it goes.
    pub pace: Pace,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    #[default]
    Do,
    /// It is only said what would be.
    DryRun,
}

/// Whether others use the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// They may.
    #[default]
    Served,
    /// Nobody does: what seems to be a push under way is none.
    Offline,
}

type Listing = Chunks<BoxStream<'static, Result<Entry, StoreError>>>;

/// A round under way.
struct Round<'a> {
    store: &'a Store,
    collection: &'a Collection,
    progress: &'a Progress,
    start: Timestamp,
    hasher: RandomState,
    /// Blobs that some repository needs.
    needed: HashSet<u64>,
    /// Blobs that are in some repository all the same.
    held: HashSet<u64>,
    /// Data that somebody names.
    data: HashSet<u64>,
    /// Repositories with manifests.
    repositories: HashSet<u64>,
    /// Repositories that lack a manifest which is set aside: nobody knows what it needs.
    blind: HashSet<u64>,
    /// Nobody knows what data an unreadable record names.
    data_unknown: bool,
}

/// How much something is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// It must live.
    Needed,
    /// Nobody needs it, but something names it that is still there: it must not go.
    Held,
    /// It may go.
    Free,
}

/// What stands after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is there, and alive.
    Lives,
    /// It is there, and condemned.
    Condemned,
    /// It is gone, or as good as gone.
    Gone,
}

impl Store {
    /// Does a round of collection. `progress` says how far it has got, and in the end what was
    /// done.
    ///
    /// # Errors
    /// Of the store, or [`StoreError::Stopped`]; the next round goes on with what is left.
    pub async fn collect(
        &self,
        collection: &Collection,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        let mut round = Round {
            store: self,
            collection,
            progress,
            start: self.now(),
            hasher: RandomState::new(),
            needed: HashSet::new(),
            held: HashSet::new(),
            data: HashSet::new(),
            repositories: HashSet::new(),
            blind: HashSet::new(),
            data_unknown: false,
        };
        round.uploads().await?;
        round.quarantine().await?;
        round.all_repositories().await?;
        round.records().await?;
        round.litter().await?;
        round.catalog().await?;
        round.directories().await
    }
}

impl Round<'_> {
    fn hash(&self, name: &impl Hash) -> u64 {
        self.hasher.hash_one(name)
    }

    /// Returns whether it was too short a time ago for this round to judge.
    fn is_young(&self, since: Timestamp) -> bool {
        since
            .checked_add(self.collection.grace)
            .is_ok_and(|end| end > self.start)
    }

    fn is_dry(&self) -> bool {
        self.collection.mode == Mode::DryRun
    }

    fn pace(&self) -> &Pace {
        &self.collection.pace
    }

    fn listing(&self, prefix: &Path) -> Listing {
        self.store.objects().entries(prefix).chunks(LISTED_AT_ONCE)
    }

    /// Returns the next objects of a listing, as many at a time as one request lists.
    async fn next_batch(&self, listing: &mut Listing) -> Result<Option<Vec<Entry>>, StoreError> {
        let Some(batch) = listing.next().await else {
            return Ok(None);
        };
        self.pace().read().await?;
        batch.into_iter().collect::<Result<_, _>>().map(Some)
    }

    /// Does what has to be done about one object: revives, condemns, removes. `created` is when
    /// it came, `size` how many bytes it stands for, `data` what goes with it.
    ///
    /// The step is done to its end even where the round is dropped.
    async fn step<H: Collectable + 'static>(
        &self,
        kind: Kind,
        key: &Path,
        seen: Seen<H>,
        judged: Judged<'_>,
    ) -> Result<Outcome, StoreError> {
        let Judged {
            need,
            created,
            size,
            data,
        } = judged;
        let Standing { state, since } = seen.header.standing();
        let since = since.unwrap_or(created);
        let (event, otherwise) = match (state, need) {
            (State::Live, Need::Needed) => return Ok(Outcome::Lives),
            (State::Live, _) if self.is_young(since) => return Ok(Outcome::Lives),
            (State::Live, _) => (Event::Condemned, Outcome::Lives),
            (State::Condemned, Need::Needed) => (Event::Revived, Outcome::Lives),
            (State::Condemned, Need::Held) => return Ok(Outcome::Condemned),
            (State::Condemned, Need::Free) if self.is_young(since) => {
                return Ok(Outcome::Condemned);
            }
            (State::Condemned, Need::Free) => (Event::Removed, Outcome::Lives),
            // Whoever doomed it may yet delete it, and we must not beside him: what comes after
            // the first delete could meet the second.
            (State::Doomed, _) => match self.store.is_abandoned(seen.header.standing()) {
                true => (Event::Removed, Outcome::Gone),
                false => return Ok(Outcome::Gone),
            },
        };
        let done = match self.is_dry() {
            true => true,
            false => {
                self.pace().change().await?;
                let (store, key, data) = (self.store.clone(), key.clone(), data.cloned());
                let step = async move {
                    match event {
                        Event::Condemned => store.condemn(&key, seen).await,
                        Event::Revived => store.revive(&key, seen).await,
                        Event::Removed => store.retire(&key, seen, data.as_ref()).await,
                        Event::Found => Ok(true),
                    }
                };
                tokio::spawn(step).await.map_err(std::io::Error::other)??
            }
        };
        if !done {
            // Somebody was faster. Whatever it is now, it was not removed by us.
            return Ok(otherwise);
        }
        self.progress.count(kind, event, size);
        Ok(match event {
            Event::Condemned => Outcome::Condemned,
            Event::Removed => Outcome::Gone,
            Event::Revived | Event::Found => Outcome::Lives,
        })
    }

    /// Does what has to be done about a marker, as it stands in a listing.
    async fn step_marker(
        &self,
        kind: Kind,
        entry: &Entry,
        need: Need,
    ) -> Result<Outcome, StoreError> {
        self.progress.count(kind, Event::Found, 0);
        let is_live = entry.size == 0;
        if is_live && (need == Need::Needed || self.is_young(entry.modified)) {
            return Ok(Outcome::Lives);
        }
        self.pace().read().await?;
        match self
            .store
            .find::<super::markers::Marker>(&entry.key)
            .await?
        {
            Found::Nothing => Ok(Outcome::Gone),
            Found::Object(seen) => {
                let judged = Judged {
                    need,
                    created: entry.modified,
                    size: 0,
                    data: None,
                };
                self.step(kind, &entry.key, seen, judged).await
            }
            Found::Damaged { .. } => {
                self.progress.add_unreadable();
                Ok(Outcome::Lives)
            }
        }
    }
}

/// What a round knows of an object.
#[derive(Clone, Copy, Debug)]
struct Judged<'a> {
    need: Need,
    created: Timestamp,
    size: u64,
    data: Option<&'a Path>,
}

/// Does steps at the same time, each to its end, and then fails where one failed.
async fn all_of<T>(
    steps: Vec<impl Future<Output = Result<T, StoreError>>>,
) -> Result<Vec<T>, StoreError> {
    let done: Vec<Result<T, StoreError>> = futures::stream::iter(steps)
        .buffered(AT_ONCE)
        .collect()
        .await;
    done.into_iter().collect()
}
