//! Upkeep: what a registry does beside serving. Run by [`crate::server`], every job a function
//! of the store that can be called on its own.

mod retention;
mod totals;

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::{sync::watch, time::MissedTickBehavior};

pub use retention::{Retained, retain_versions};
pub(crate) use totals::Totals;

use crate::store::Store;

/// What is done, and how often.
#[derive(Clone, Debug)]
pub struct Upkeep {
    /// How many versions of a component are kept; all of them without a number.
    pub versions: Option<usize>,
    /// Uploads that nothing arrives for are ended after this time.
    pub upload_expiry: Duration,
    /// Time between two rounds. The first one begins at once.
    pub interval: Duration,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            versions: None,
            upload_expiry: Duration::from_secs(24 * 60 * 60),
            interval: Duration::from_secs(60 * 60),
        }
    }
}

/// Does a round of upkeep now and then until `stopping` turns true. What fails is logged and
/// tried again in the next round.
pub(crate) async fn run(
    store: Store,
    upkeep: Upkeep,
    totals: Arc<Totals>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut rounds = tokio::time::interval(upkeep.interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = rounds.tick() => {}
        }
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            () = round(&store, &upkeep, &totals) => {}
        }
    }
}

async fn round(store: &Store, upkeep: &Upkeep, totals: &Totals) {
    let age = SignedDuration::try_from(upkeep.upload_expiry).unwrap_or(SignedDuration::MAX);
    let before = Timestamp::now().checked_sub(age).unwrap_or(Timestamp::MIN);
    match store.expire_uploads(before).await {
        Ok(0) => {}
        Ok(expired) => {
            totals.uploads_expired.add(expired as u64);
            tracing::info!(
                uploads.expired = expired,
                "ended uploads that nothing arrives for"
            );
        }
        Err(error) => {
            totals.failures.add(1);
            tracing::error!(cause = ?error, "cannot end uploads that nothing arrives for")
        }
    }
    if let Some(versions) = upkeep.versions {
        match retain_versions(store, versions).await {
            Ok(Retained { removed: 0, .. }) => {}
            Ok(Retained { removed, kept }) => {
                totals.versions_removed.add(removed as u64);
                tracing::info!(
                    versions.removed = removed,
                    versions.kept = kept,
                    "removed old versions"
                );
            }
            Err(error) => {
                totals.failures.add(1);
                tracing::error!(cause = ?error, "cannot remove old versions");
            }
        }
    }
    totals.rounds.add(1);
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    totals.last_round.set(now);
}
