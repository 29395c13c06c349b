//! What the store asks of its backend.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::collect::Family;
use crate::store::meter::{Meter, Operation, Outcome};

/// The families of a store.
#[derive(Debug)]
pub(super) struct Storage(pub(super) Arc<Meter>);

impl Collector for Storage {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let (encoder, meter) = (&mut encoder, &self.0);
        let counts = Operation::ALL.iter().flat_map(|operation| {
            Outcome::ALL.iter().map(move |outcome| {
                let labels = [("operation", operation.name()), ("outcome", outcome.name())];
                (labels, meter.count(*operation, *outcome))
            })
        });
        Family::new("store_operations", "Operations of the storage backend")
            .counters(encoder, counts.filter(|(_, count)| *count > 0))?;
        let durations = Operation::ALL.iter().map(|operation| {
            let labels = [("operation", operation.name())];
            (labels, meter.durations(*operation))
        });
        let help = "Time that operations of the storage backend took";
        Family::seconds("store_operation_duration", help).histograms(
            encoder,
            durations.filter(|(_, durations)| durations.count > 0),
        )?;
        let (read, written) = meter.bytes();
        Family::bytes("store_read", "Bytes read from the storage backend")
            .counter(encoder, read)?;
        Family::bytes("store_written", "Bytes written to the storage backend")
            .counter(encoder, written)
    }
}
