//! When upkeep is done: each kind on a timer, and one round at a time within this process. Run
//! by [`crate::server`]; `control` does rounds beside the timers.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{Mutex, watch},
    time::MissedTickBehavior,
};

use super::{
    gc::{Gc, collect_audited},
    retention::{Retention, retain_audited},
    signed,
    totals::Totals,
};
use crate::{
    audit::{self, AuditLog},
    store::{
        Collected, Kind, Mode, Others, Pace, Progress, Scrub, Scrubbed, Store, StoreError, causes,
    },
};

const MIB: u64 = 1024 * 1024;

/// What is done, and how often.
#[derive(Clone, Debug)]
pub struct Upkeep {
    /// How much is kept of components and configurations.
    pub retention: Retention,
    /// Uploads that nothing arrives for are ended after this time.
    pub upload_expiry: Duration,
    /// Time between two rounds of removing old versions and ending dead uploads. The first one
    /// begins at once.
    pub interval: Duration,
    /// Time between two rounds of collection, by whichever replica; never without one.
    pub gc_interval: Option<Duration>,
    /// How long what nobody needs is kept.
    pub gc_grace: Duration,
    /// Requests a second to the store while collecting, at most, of which a change counts as
    /// ten; 0 is without a bound.
    pub gc_rate: u64,
    /// Time between two scrubs, by whichever replica; never without one.
    pub scrub_interval: Option<Duration>,
    /// Bytes a second while scrubbing, at most; 0 is without a bound.
    pub scrub_rate: u64,
    /// How long lines of the audit log are kept; for ever without it.
    pub audit_retention: Option<Duration>,
}

impl Default for Upkeep {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        Self {
            retention: Retention::default(),
            upload_expiry: 24 * HOUR,
            interval: HOUR,
            gc_interval: Some(6 * HOUR),
            gc_grace: 24 * HOUR,
            gc_rate: 500,
            scrub_interval: None,
            scrub_rate: 20 * MIB,
            audit_retention: Some(90 * 24 * HOUR),
        }
    }
}

impl Upkeep {
    /// Returns the round of collection that the timer does.
    pub fn gc(&self) -> Gc {
        Gc {
            grace: self.gc_grace,
            rate: self.gc_rate,
            upload_expiry: self.upload_expiry,
            retention: self.retention.clone(),
            dry_run: false,
        }
    }
}

/// The upkeep of one store in this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Jobs {
    store: Store,
    upkeep: Upkeep,
    totals: Arc<Totals>,
    audit: AuditLog,
    /// Held by the round that is under way.
    busy: Arc<Mutex<()>>,
    stopping: watch::Receiver<bool>,
}

impl Jobs {
    /// Returns the upkeep of a store, which begins nothing once `stopping` turns true. What it
    /// removes it writes down in the audit log, which it looks after too.
    pub fn new(
        store: Store,
        upkeep: Upkeep,
        totals: Arc<Totals>,
        audit: AuditLog,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            store,
            upkeep,
            totals,
            audit,
            busy: Arc::default(),
            stopping,
        }
    }

    /// Returns what it does, and how often.
    pub fn upkeep(&self) -> &Upkeep {
        &self.upkeep
    }

    /// Does a round of collection, behind the one that is under way.
    ///
    /// # Errors
    /// As [`collect`](super::collect).
    pub async fn collect(
        &self,
        gc: &Gc,
        progress: &Progress,
        stop: watch::Receiver<bool>,
    ) -> Result<Collected, StoreError> {
        let _busy = self.busy.lock().await;
        if !gc.dry_run {
            self.store.note_turn(GC).await?;
        }
        let (store, others, audit) = (&self.store, Others::Served, &self.audit);
        let done = collect_audited(store, gc, others, progress, stop, audit).await;
        if !gc.dry_run {
            self.totals.collections.add(&done);
            self.totals.add_collected(&progress.so_far());
        }
        done
    }

    /// Reads and checks everything that is stored, behind what is under way.
    ///
    /// # Errors
    /// As [`Store::scrub`].
    pub async fn scrub(
        &self,
        scrub: &Scrub,
        report: &mut (dyn FnMut(&Scrubbed) + Send),
    ) -> Result<Scrubbed, StoreError> {
        let done = self.store.scrub(scrub, report).await;
        self.totals.scrubs.add(&done);
        if let Ok(scrubbed) = &done {
            self.totals.add_scrubbed(scrubbed);
        }
        done
    }

    /// Removes what scrubs have set aside, and returns how many objects that were.
    ///
    /// # Errors
    /// Of the store.
    pub async fn discard(&self) -> Result<u64, StoreError> {
        self.store.empty_quarantine().await
    }

    async fn stopped(&self) {
        // An error says that the server is gone already.
        let _ = self.stopping.clone().wait_for(|stopping| *stopping).await;
    }
}

const GC: &str = "gc";
const SCRUB: &str = "scrub";
const AUDIT: &str = "audit";
/// Many small objects of the audit log are put together at least so often.
const AUDIT_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Nonces of logins are kept so much longer than they are good, for clocks that are behind.
const NONCES_KEPT: SignedDuration = SignedDuration::from_mins(10);

/// Does upkeep now and then until the server stops. What fails is logged and tried again in the
/// next round.
pub(crate) async fn run(jobs: Jobs) {
    tokio::join!(
        routine(&jobs),
        collections(&jobs),
        scrubs(&jobs),
        audits(&jobs)
    );
}

async fn routine(jobs: &Jobs) {
    let mut rounds = tokio::time::interval(jobs.upkeep.interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = jobs.stopped() => return,
            _ = rounds.tick() => {}
        }
        tokio::select! {
            () = jobs.stopped() => return,
            () = round(jobs) => {}
        }
    }
}

async fn round(jobs: &Jobs) {
    let Jobs {
        store,
        upkeep,
        totals,
        audit,
        ..
    } = jobs;
    let before = store
        .now()
        .checked_sub(signed(upkeep.upload_expiry))
        .unwrap_or(Timestamp::MIN);
    match store.expire_uploads(before).await {
        Ok(0) => {}
        Ok(expired) => {
            totals.add_removed(Kind::Uploads, expired as u64);
            tracing::info!(
                uploads.expired = expired,
                "ended uploads that nothing arrives for"
            );
        }
        Err(error) => {
            totals.routine.failures.add(1);
            tracing::error!(
                cause = causes(&error),
                "cannot end uploads that nothing arrives for"
            )
        }
    }
    let before = store.now().checked_sub(NONCES_KEPT);
    if let Err(error) = store.forget_nonces(before.unwrap_or(Timestamp::MIN)).await {
        totals.routine.failures.add(1);
        let cause = causes(&error);
        tracing::error!(cause, "cannot forget nonces that have expired");
    }
    let pace = Pace::per_second(upkeep.gc_rate).until(jobs.stopping.clone());
    match retain_audited(store, &upkeep.retention, Mode::Do, &pace, audit).await {
        Ok(retained) if retained.removed_tags.is_empty() => {}
        Ok(retained) => {
            let removed = retained.removed_tags.len();
            totals.add_removed(Kind::Tags, removed as u64);
            tracing::info!(
                tags.removed = removed,
                versions.kept = retained.kept_versions,
                releases.kept = retained.kept_releases,
                "removed old versions"
            );
        }
        Err(StoreError::Stopped) => {}
        Err(error) => {
            totals.routine.failures.add(1);
            tracing::error!(cause = causes(&error), "cannot remove old versions");
        }
    }
    totals.routine.end();
}

/// Waits until it is this process' turn; false where the server stops.
async fn turn(jobs: &Jobs, kind: &'static str, interval: Duration) -> bool {
    const LOOKS: u32 = 20;
    const LOOK_MAX: Duration = Duration::from_secs(60);
    loop {
        tokio::select! {
            () = jobs.stopped() => return false,
            () = tokio::time::sleep((interval / LOOKS).min(LOOK_MAX)) => {}
        }
        match jobs.store.take_turn(kind, interval).await {
            Ok(true) => return true,
            Ok(false) => {}
            Err(error) => tracing::warn!(
                cause = causes(&error),
                "cannot tell when upkeep was done last"
            ),
        }
    }
}

async fn collections(jobs: &Jobs) {
    let Some(interval) = jobs.upkeep.gc_interval else {
        return;
    };
    while turn(jobs, GC, interval).await {
        let gc = jobs.upkeep.gc();
        let progress = Progress::default();
        match jobs.collect(&gc, &progress, jobs.stopping.clone()).await {
            Ok(collected) => tracing::info!(
                manifests.removed = collected.manifests.removed,
                blobs.removed = collected.blobs.removed,
                bytes.removed = collected.removed_bytes(),
                blobs.condemned = collected.blobs.condemned,
                "collected what nobody needs"
            ),
            Err(StoreError::Stopped) => return,
            Err(error) => {
                tracing::error!(cause = causes(&error), "cannot collect what nobody needs")
            }
        }
    }
}

async fn audits(jobs: &Jobs) {
    if !jobs.audit.is_on() {
        return;
    }
    let interval = jobs.upkeep.interval.min(AUDIT_INTERVAL);
    while turn(jobs, AUDIT, interval).await {
        let kept = tokio::select! {
            () = jobs.stopped() => return,
            kept = audit::keep(&jobs.store, jobs.upkeep.audit_retention) => kept,
        };
        match kept {
            Ok(kept) => tracing::debug!(
                objects.merged = kept.merged,
                objects.removed = kept.removed,
                "looked after the audit log"
            ),
            Err(error) => {
                jobs.totals.routine.failures.add(1);
                tracing::error!(cause = causes(&error), "cannot look after the audit log");
            }
        }
    }
}

async fn scrubs(jobs: &Jobs) {
    let Some(interval) = jobs.upkeep.scrub_interval else {
        return;
    };
    while turn(jobs, SCRUB, interval).await {
        let stopping = jobs.stopping.clone();
        let scrub = Scrub::new(Mode::Do, jobs.upkeep.scrub_rate, |pace| {
            pace.until(stopping)
        });
        match jobs.scrub(&scrub, &mut |_| {}).await {
            Ok(scrubbed) => tracing::info!(
                blobs = scrubbed.blobs,
                manifests = scrubbed.manifests,
                bytes = scrubbed.bytes,
                damaged = scrubbed.damaged.len(),
                "scrubbed what is stored"
            ),
            Err(StoreError::Stopped) => return,
            Err(error) => tracing::error!(cause = causes(&error), "cannot scrub what is stored"),
        }
    }
}
