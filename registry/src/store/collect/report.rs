//! What a round of collection found and did, in counts and bytes. Filled by `collect`, printed
//! by the program, added up for the metrics.

use std::{
    ops::AddAssign,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

/// What is counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Tags, by retention.
    Tags,
    /// Manifests.
    Manifests,
    /// Blobs in repositories.
    Members,
    /// Blobs, of the whole registry.
    Blobs,
    /// Data without a blob, of pushes that died.
    Data,
    /// Uploads that nobody finishes.
    Uploads,
    /// Entries of manifests that are gone in lists of referrers.
    Referrers,
    /// Entries of repositories that are gone in the catalog.
    Catalog,
    /// Empty directories.
    Directories,
}

impl Kind {
    /// Every kind, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Tags,
        Self::Manifests,
        Self::Members,
        Self::Blobs,
        Self::Data,
        Self::Uploads,
        Self::Referrers,
        Self::Catalog,
        Self::Directories,
    ];

    /// Returns its name, as in the JSON report and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Manifests => "manifests",
            Self::Members => "members",
            Self::Blobs => "blobs",
            Self::Data => "data",
            Self::Uploads => "uploads",
            Self::Referrers => "referrers",
            Self::Catalog => "catalog",
            Self::Directories => "directories",
        }
    }
}

/// What was found of one kind, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How many there were.
    pub found: u64,
    /// How many bytes those held.
    pub found_bytes: u64,
    /// How many nobody needs, and were condemned: they go once their grace is over.
    pub condemned: u64,
    /// How many bytes those hold.
    pub condemned_bytes: u64,
    /// How many were condemned before, and are needed after all.
    pub revived: u64,
    /// How many were removed.
    pub removed: u64,
    /// How many bytes those held.
    pub removed_bytes: u64,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Found,
    Condemned,
    Revived,
    Removed,
}

impl Counts {
    pub(crate) fn add(&mut self, event: Event, bytes: u64) {
        match event {
            Event::Found => {
                self.found += 1;
                self.found_bytes += bytes;
            }
            Event::Condemned => {
                self.condemned += 1;
                self.condemned_bytes += bytes;
            }
            Event::Revived => self.revived += 1,
            Event::Removed => {
                self.removed += 1;
                self.removed_bytes += bytes;
            }
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.found += other.found;
        self.found_bytes += other.found_bytes;
        self.condemned += other.condemned;
        self.condemned_bytes += other.condemned_bytes;
        self.revived += other.revived;
        self.removed += other.removed;
        self.removed_bytes += other.removed_bytes;
    }
}

/// What a round of collection found and did; with a dry run, what it would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Repositories that hold anything.
    pub repositories: u64,
    /// Manifests and records that nobody can read. What they might need stays, until they are
    /// pushed again or set aside by a scrub.
    pub unreadable: u64,
    /// Tags that retention removed.
    pub tags: Counts,
    /// Manifests.
    pub manifests: Counts,
    /// Blobs in repositories; they hold no bytes of their own.
    pub members: Counts,
    /// Blobs.
    pub blobs: Counts,
    /// Data without a blob.
    pub data: Counts,
    /// Uploads.
    pub uploads: Counts,
    /// Entries in lists of referrers.
    pub referrers: Counts,
    /// Entries in the catalog.
    pub catalog: Counts,
    /// Directories.
    pub directories: Counts,
}

impl Collected {
    /// Returns what is counted of a kind.
    pub fn counts(&self, kind: Kind) -> &Counts {
        match kind {
            Kind::Tags => &self.tags,
            Kind::Manifests => &self.manifests,
            Kind::Members => &self.members,
            Kind::Blobs => &self.blobs,
            Kind::Data => &self.data,
            Kind::Uploads => &self.uploads,
            Kind::Referrers => &self.referrers,
            Kind::Catalog => &self.catalog,
            Kind::Directories => &self.directories,
        }
    }

    pub(crate) fn counts_mut(&mut self, kind: Kind) -> &mut Counts {
        match kind {
            Kind::Tags => &mut self.tags,
            Kind::Manifests => &mut self.manifests,
            Kind::Members => &mut self.members,
            Kind::Blobs => &mut self.blobs,
            Kind::Data => &mut self.data,
            Kind::Uploads => &mut self.uploads,
            Kind::Referrers => &mut self.referrers,
            Kind::Catalog => &mut self.catalog,
            Kind::Directories => &mut self.directories,
        }
    }

    /// Returns how many bytes were given back.
    pub fn removed_bytes(&self) -> u64 {
        Kind::ALL
            .map(|kind| self.counts(kind).removed_bytes)
            .iter()
            .sum()
    }
}

/// A report that is being filled; can be looked at meanwhile.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Collected>);

impl Progress {
    /// Returns what it says so far.
    pub fn so_far(&self) -> Collected {
        self.lock().clone()
    }

    pub(crate) fn count(&self, kind: Kind, event: Event, bytes: u64) {
        self.lock().counts_mut(kind).add(event, bytes);
    }

    /// Forgets what was found, for another round that finds it again.
    pub(crate) fn begin_again(&self) {
        let mut collected = self.lock();
        (collected.repositories, collected.unreadable) = (0, 0);
        for kind in Kind::ALL {
            let counts = collected.counts_mut(kind);
            (counts.found, counts.found_bytes) = (0, 0);
        }
    }

    pub(crate) fn add_repository(&self) {
        self.lock().repositories += 1;
    }

    pub(crate) fn add_unreadable(&self) {
        self.lock().unreadable += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
