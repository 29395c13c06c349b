//! What became of lines of the audit log.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::collect::Family;
use crate::audit::Counts;

/// The families of the audit log.
#[derive(Debug)]
pub(super) struct Audit(pub(super) Arc<Counts>);

impl Collector for Audit {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let (encoder, counts) = (&mut encoder, &self.0);
        Family::new("audit_lines", "Lines of the audit log")
            .counter(encoder, counts.lines.get())?;
        Family::new("audit_lost", "Lines of the audit log without room")
            .counter(encoder, counts.lost.get())?;
        Family::new("audit_refusals", "Attempts that were refused")
            .counter(encoder, counts.refusals.get())?;
        Family::new("audit_failures", "Failed attempts to write the audit log")
            .counter(encoder, counts.failures.get())
    }
}
