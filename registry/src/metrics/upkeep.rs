//! What upkeep has done since the start.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::collect::Family;
use crate::{
    jobs::{Rounds, Totals},
    store::Kind,
};

/// The families of upkeep.
#[derive(Debug)]
pub(super) struct Upkeep(pub(super) Arc<Totals>);

impl Collector for Upkeep {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let (encoder, totals) = (&mut encoder, &self.0);
        rounds(
            encoder,
            &totals.routine,
            [
                ("upkeep_rounds", "Rounds of upkeep"),
                ("upkeep_failures", "Jobs of upkeep that failed"),
                (
                    "upkeep_last_round_timestamp",
                    "When the last round of upkeep ended, since 1970",
                ),
            ],
        )?;
        rounds(
            encoder,
            &totals.collections,
            [
                ("gc_rounds", "Collections that ended"),
                ("gc_failures", "Collections that failed"),
                (
                    "gc_last_round_timestamp",
                    "When the last collection ended, since 1970",
                ),
            ],
        )?;
        rounds(
            encoder,
            &totals.scrubs,
            [
                ("scrub_rounds", "Scrubs that ended"),
                ("scrub_failures", "Scrubs that failed"),
                (
                    "scrub_last_round_timestamp",
                    "When the last scrub ended, since 1970",
                ),
            ],
        )?;
        let help = "Uploads ended because nothing arrived for them";
        let expired = totals.counts(Kind::Uploads).removed;
        Family::new("uploads_expired", help).counter(encoder, expired)?;
        let help = "Old versions and releases removed";
        let removed = totals.counts(Kind::Tags).removed;
        Family::new("versions_removed", help).counter(encoder, removed)?;
        let rows = || Kind::ALL.map(|kind| ([("kind", kind.name())], totals.counts(kind)));
        let events = rows().into_iter().flat_map(|([kind], counts)| {
            [
                ([kind, ("event", "condemned")], counts.condemned),
                ([kind, ("event", "revived")], counts.revived),
                ([kind, ("event", "removed")], counts.removed),
            ]
        });
        Family::new("gc_objects", "What became of objects, by collection")
            .counters(encoder, events.filter(|(_, count)| *count > 0))?;
        let removed = rows().map(|(labels, counts)| (labels, counts.removed_bytes));
        Family::bytes("gc_removed", "Bytes given back by collection")
            .counters(encoder, removed.into_iter().filter(|(_, bytes)| *bytes > 0))?;
        Family::new(
            "gc_unreadable",
            "Objects that the last collection could not read",
        )
        .gauge(encoder, totals.unreadable())?;
        Family::bytes("scrub_read", "Bytes read by scrubs")
            .counter(encoder, totals.scrubbed_bytes())?;
        Family::new("scrub_damaged", "Objects found damaged").counter(encoder, totals.damaged())
    }
}

/// Writes how many rounds ended, how many failed, and when the last one ended.
fn rounds(
    encoder: &mut DescriptorEncoder<'_>,
    rounds: &Rounds,
    [ended, failed, last]: [(&str, &str); 3],
) -> fmt::Result {
    Family::new(ended.0, ended.1).counter(encoder, rounds.ended.get())?;
    Family::new(failed.0, failed.1).counter(encoder, rounds.failures.get())?;
    Family::seconds(last.0, last.1).gauge(encoder, rounds.last.get())
}
