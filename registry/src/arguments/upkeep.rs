//! The flags of upkeep: what `serve` does on its own, and what the verbs `gc` and `scrub` do.

use std::{num::NonZeroUsize, time::Duration};

use clap::{Args, ValueEnum};
use deploy_registry::jobs::{Gc, Retention, Upkeep, Wish};
use deploy_spec::arguments::bytes;

use super::{
    LogFormat, Storage,
    values::{duration, positive_duration},
};

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What `serve` does beside serving.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Upkeep")]
pub(super) struct UpkeepFlags {
    /// How many versions of each component to keep, besides those that a tagged release uses;
    /// 0 keeps all.
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    maxver: usize,

    /// How many releases of each configuration to keep, besides those that a channel means;
    /// 0 keeps all.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    max_releases: usize,

    /// Time between two rounds of removing old versions and ending dead uploads.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = positive_duration)]
    upkeep: Duration,

    /// Time between two collections of what nobody needs, by whichever replica; 0 is never.
    #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = duration)]
    gc_interval: Duration,

    /// How long what nobody needs is kept: untagged manifests, blobs that no manifest names. A
    /// push must not take longer between its first blob and its manifest; not under 10m.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    gc_grace: Duration,

    /// Requests a second to the storage while collecting, at most, of which a change counts as
    /// ten; 0 is without a bound.
    #[arg(long, value_name = "NUMBER", default_value_t = Upkeep::default().gc_rate)]
    gc_rate: u64,

    /// Time between two scrubs, which read everything, by whichever replica; 0 is never.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    scrub_interval: Duration,

    /// Bytes a second while scrubbing, at most, as `20MiB`; 0 is without a bound.
    #[arg(long, value_name = "BYTES", default_value = "20MiB", value_parser = bytes)]
    scrub_rate: u64,
}

impl UpkeepFlags {
    /// Returns what they come to.
    pub(super) fn settings(self) -> Upkeep {
        let some = |time: Duration| (!time.is_zero()).then_some(time);
        Upkeep {
            retention: Retention {
                versions: all_or(self.maxver),
                releases: all_or(self.max_releases),
            },
            interval: self.upkeep,
            gc_interval: some(self.gc_interval),
            gc_grace: self.gc_grace,
            gc_rate: self.gc_rate,
            scrub_interval: some(self.scrub_interval),
            scrub_rate: self.scrub_rate,
            ..Upkeep::default()
        }
    }
}

fn all_or(number: usize) -> Option<usize> {
    NonZeroUsize::new(number).map(NonZeroUsize::get)
}

/// What `gc` takes.
///
/// Where a process serves the directory, that process does it, and what is not said here is as
/// it was started. Otherwise this one does, and keeps all versions and releases unless told.
#[derive(Clone, Debug, Args)]
pub(crate) struct GcVerb {
    #[command(flatten)]
    pub(crate) storage: Storage,

    /// Only says what would be done.
    #[arg(long)]
    dry_run: bool,

    /// How long what nobody needs is kept [default: as it was served, or 24h].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    gc_grace: Option<Duration>,

    /// Requests a second to the storage, at most, of which a change counts as ten; 0 is without
    /// a bound [default: as it was served, or 0].
    #[arg(long, value_name = "NUMBER")]
    gc_rate: Option<u64>,

    /// How many versions of each component to keep; 0 keeps all [default: as it was served,
    /// or 0].
    #[arg(long, value_name = "NUMBER")]
    maxver: Option<usize>,

    /// How many releases of each configuration to keep; 0 keeps all [default: as it was served,
    /// or 0].
    #[arg(long, value_name = "NUMBER")]
    max_releases: Option<usize>,

    /// How the result is written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Output,

    /// How log lines are written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

impl GcVerb {
    /// Returns what the process that serves the directory is asked for.
    pub(crate) fn wish(&self) -> Wish {
        Wish::Gc {
            dry_run: self.dry_run,
            grace: self.gc_grace,
            rate: self.gc_rate,
            versions: self.maxver,
            releases: self.max_releases,
        }
    }

    /// Returns what this process does.
    pub(crate) fn gc(&self) -> Gc {
        let usual = Upkeep::default();
        Gc {
            grace: self.gc_grace.unwrap_or(usual.gc_grace),
            rate: self.gc_rate.unwrap_or(0),
            upload_expiry: usual.upload_expiry,
            retention: Retention {
                versions: self.maxver.and_then(all_or),
                releases: self.max_releases.and_then(all_or),
            },
            dry_run: self.dry_run,
        }
    }

    /// Returns whether it is only said what would be done.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

/// What `scrub` takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct ScrubVerb {
    #[command(flatten)]
    pub(crate) storage: Storage,

    /// Only says what is damaged.
    #[arg(long, conflicts_with = "discard")]
    dry_run: bool,

    /// Bytes a second, at most, as `20MiB`; 0 is without a bound [default: as it was served,
    /// or 0].
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    rate: Option<u64>,

    /// Instead, removes what earlier scrubs have set aside.
    #[arg(long)]
    pub(crate) discard: bool,

    /// How the result is written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Output,

    /// How log lines are written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

impl ScrubVerb {
    /// Returns what the process that serves the directory is asked for.
    pub(crate) fn wish(&self) -> Wish {
        match self.discard {
            true => Wish::Discard,
            false => Wish::Scrub {
                dry_run: self.dry_run,
                rate: self.rate,
            },
        }
    }

    /// Returns whether it is only said what is damaged.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Returns how many bytes a second are read.
    pub(crate) fn rate(&self) -> u64 {
        self.rate.unwrap_or(0)
    }
}
