//! A round of upkeep as an operator asks for it, and as the timer does it: old versions and
//! releases first, then collection.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    retention::{Retention, retain_audited},
    signed,
};
use crate::{
    audit::AuditLog,
    store::{Collected, Collection, Event, Kind, Mode, Others, Pace, Progress, Store, StoreError},
};

/// What a round of upkeep does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gc {
    /// How long what nobody needs is kept.
    pub grace: Duration,
    /// Requests a second to the store, at most; 0 is without a bound.
    pub rate: u64,
    /// Uploads that nothing arrives for are ended after this time.
    pub upload_expiry: Duration,
    /// What is kept of components and configurations.
    pub retention: Retention,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
}

/// Does a round of upkeep. `progress` tells how far it has got meanwhile; it must be new.
///
/// Without a grace, what is found unneeded goes at once: that takes two rounds of collection.
///
/// # Errors
/// Of the store, or [`StoreError::Stopped`]; the next round goes on with what is left.
pub async fn collect(
    store: &Store,
    gc: &Gc,
    others: Others,
    progress: &Progress,
    stop: watch::Receiver<bool>,
) -> Result<Collected, StoreError> {
    collect_audited(store, gc, others, progress, stop, &AuditLog::off()).await
}

/// As [`collect`], and writes down in the log which tags it removes.
///
/// # Errors
/// As there.
pub async fn collect_audited(
    store: &Store,
    gc: &Gc,
    others: Others,
    progress: &Progress,
    stop: watch::Receiver<bool>,
    audit: &AuditLog,
) -> Result<Collected, StoreError> {
    let mode = match gc.dry_run {
        true => Mode::DryRun,
        false => Mode::Do,
    };
    let pace = Pace::per_second(gc.rate).until(stop);
    let retained = retain_audited(store, &gc.retention, mode, &pace, audit).await?;
    let without_tags = match mode {
        Mode::DryRun => retained.removed_tags.iter().cloned().collect(),
        Mode::Do => Default::default(),
    };
    for _ in &retained.removed_tags {
        progress.count(Kind::Tags, Event::Removed, 0);
    }
    let collection = Collection {
        grace: signed(gc.grace),
        upload_expiry: signed(gc.upload_expiry),
        mode,
        others,
        without_tags,
        pace,
    };
    store.collect(&collection, progress).await?;
    if collection.grace == SignedDuration::ZERO && mode == Mode::Do {
        progress.begin_again();
        store.collect(&collection, progress).await?;
    }
    Ok(progress.so_far())
}
