//! What upkeep has done since the start.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::collect::Family;
use crate::jobs::Totals;

/// The families of upkeep.
#[derive(Debug)]
pub(super) struct Upkeep(pub(super) Arc<Totals>);

impl Collector for Upkeep {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let (encoder, totals) = (&mut encoder, &self.0);
        Family::new("upkeep_rounds", "Rounds of upkeep").counter(encoder, totals.rounds.get())?;
        Family::new("upkeep_failures", "Jobs of upkeep that failed")
            .counter(encoder, totals.failures.get())?;
        let help = "When the last round of upkeep ended, since 1970";
        Family::seconds("upkeep_last_round_timestamp", help)
            .gauge(encoder, totals.last_round.get())?;
        let help = "Uploads ended because nothing arrived for them";
        Family::new("uploads_expired", help).counter(encoder, totals.uploads_expired.get())?;
        Family::new("versions_removed", "Old versions of components removed")
            .counter(encoder, totals.versions_removed.get())
    }
}
