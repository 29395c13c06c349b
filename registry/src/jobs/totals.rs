//! What upkeep has done since the start, for the metrics. Filled by [`super::run`].

use crate::measure::{Count, Level};

/// What upkeep has done, summed up.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Rounds that ended.
    pub(crate) rounds: Count,
    /// Jobs of a round that failed.
    pub(crate) failures: Count,
    /// When the last round ended, in seconds since 1970.
    pub(crate) last_round: Level,
    /// Uploads that were ended because nothing arrived for them.
    pub(crate) uploads_expired: Count,
    /// Old versions of components that were removed.
    pub(crate) versions_removed: Count,
}
