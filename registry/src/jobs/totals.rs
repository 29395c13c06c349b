//! What upkeep has done since the start, for the metrics. Filled by `jobs`.

use jiff::Timestamp;

use crate::{
    measure::{Count, Level},
    store::{Collected, Counts, Kind, Scrubbed, StoreError},
};

/// What upkeep has done, summed up.
#[derive(Debug, Default)]
pub struct Totals {
    /// Rounds of removing old versions and ending dead uploads.
    pub(crate) routine: Rounds,
    /// Rounds of collection.
    pub(crate) collections: Rounds,
    /// Scrubs.
    pub(crate) scrubs: Rounds,
    kinds: [KindTotals; Kind::ALL.len()],
    unreadable: Level,
    scrubbed_bytes: Count,
    damaged: Count,
}

/// How often something was done.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Those that ended.
    pub(crate) ended: Count,
    /// Failures.
    pub(crate) failures: Count,
    /// When the last one ended, in seconds since 1970.
    pub(crate) last: Level,
}

#[derive(Debug, Default)]
struct KindTotals {
    found: Level,
    condemned: Count,
    revived: Count,
    removed: Count,
    removed_bytes: Count,
}

impl Rounds {
    pub(super) fn end(&self) {
        self.ended.add(1);
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        self.last.set(now);
    }

    /// Counts a round. One that was told to stop neither ended nor failed.
    pub(super) fn add<T>(&self, done: &Result<T, StoreError>) {
        match done {
            Ok(_) => self.end(),
            Err(StoreError::Stopped) => {}
            Err(_) => self.failures.add(1),
        }
    }
}

impl Totals {
    /// Returns what happened to a kind since the start; of what was found, what the last
    /// collection found.
    pub(crate) fn counts(&self, kind: Kind) -> Counts {
        let totals = self.kind(kind);
        Counts {
            found: totals.found.get(),
            condemned: totals.condemned.get(),
            revived: totals.revived.get(),
            removed: totals.removed.get(),
            removed_bytes: totals.removed_bytes.get(),
            ..Counts::default()
        }
    }

    /// Returns how many objects the last collection could not read.
    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable.get()
    }

    /// Returns how many bytes were scrubbed.
    pub(crate) fn scrubbed_bytes(&self) -> u64 {
        self.scrubbed_bytes.get()
    }

    /// Returns how many objects were found damaged.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.get()
    }

    /// Counts what was removed outside of collections.
    pub(super) fn add_removed(&self, kind: Kind, count: u64) {
        self.kind(kind).removed.add(count);
    }

    pub(super) fn add_collected(&self, collected: &Collected) {
        for kind in Kind::ALL {
            let (totals, counts) = (self.kind(kind), collected.counts(kind));
            totals.found.set(counts.found);
            totals.condemned.add(counts.condemned);
            totals.revived.add(counts.revived);
            totals.removed.add(counts.removed);
            totals.removed_bytes.add(counts.removed_bytes);
        }
        self.unreadable.set(collected.unreadable);
    }

    pub(super) fn add_scrubbed(&self, scrubbed: &Scrubbed) {
        self.scrubbed_bytes.add(scrubbed.bytes);
        self.damaged.add(scrubbed.damaged.len() as u64);
    }

    fn kind(&self, kind: Kind) -> &KindTotals {
        let place = Kind::ALL.iter().position(|other| *other == kind);
        &self.kinds[place.unwrap_or_default()]
    }
}
