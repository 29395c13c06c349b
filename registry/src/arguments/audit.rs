//! The flags of the audit log. Part of `serve`.

use std::time::Duration;

use clap::Args;
use deploy_registry::Audit;

use super::values::duration;

/// Who did what, and for how long that is known.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Audit")]
pub(crate) struct AuditFlags {
    /// How long it is kept, beside the data, who changed what and who was refused; 0 is for ever
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = duration)]
    audit_retention: Duration,

    /// Does not write down who did what; what was written down before stays
    #[arg(long)]
    no_audit: bool,
}

impl AuditFlags {
    /// Returns whether it is written down who did what.
    pub(super) fn audit(&self) -> Audit {
        match self.no_audit {
            true => Audit::Off,
            false => Audit::Kept,
        }
    }

    /// Returns how long that is kept; for ever without a time.
    pub(super) fn retention(&self) -> Option<Duration> {
        Some(self.audit_retention).filter(|time| !time.is_zero())
    }
}
