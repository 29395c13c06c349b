//! The log: takes lines from requests, which never wait for it, and writes those that came
//! together as one object. Opened by [`crate::server`].

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use deploy_spec::{
    RepositoryName,
    audit::{Actor, Entry, action, kind},
};
use jiff::Timestamp;
use rand::RngExt as _;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use super::{lines, refusals::Refusals};
use crate::{
    measure::Count,
    store::{Store, StoreError, causes},
};

const KIB: usize = 1024;
/// What waits to be written at most; what is being written comes on top of it.
const PENDING_MAX: usize = 4096 * KIB;
/// As much is written before its time.
const PENDING_MUCH: usize = 512 * KIB;
/// Lines come together for as long.
const PAUSE: Duration = Duration::from_secs(1);
/// A store that failed is given so much time.
const AGAIN: Duration = Duration::from_secs(5);
/// At the end, what cannot be written is tried so often.
const LAST_ATTEMPTS: u32 = 3;

/// Takes lines and keeps them in a store, or nowhere. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct AuditLog(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    store: Store,
    /// Tells the lines of this process from those of others.
    process: u32,
    lines: AtomicU64,
    pending: Mutex<Pending>,
    refusals: Mutex<Refusals>,
    /// What is being written. It stays here until it is, whoever writes it.
    batch: tokio::sync::Mutex<Option<Batch>>,
    more: Notify,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Pending {
    lines: Vec<u8>,
    /// When the first and the last of them were.
    times: Option<(Timestamp, Timestamp)>,
    lost: u64,
}

#[derive(Clone, Debug)]
struct Batch {
    lines: Bytes,
    first: Timestamp,
    last: Timestamp,
}

/// What became of lines.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Lines that were taken.
    pub(crate) lines: Count,
    /// Lines for which there was no room.
    pub(crate) lost: Count,
    /// Refusals, with a line of their own or without.
    pub(crate) refusals: Count,
    /// Writes to the store that failed.
    pub(crate) failures: Count,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AuditLog {
    /// Returns one that keeps nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Returns one that keeps its lines in this store.
    pub fn new(store: Store) -> Self {
        Self(Some(Arc::new(Inner {
            store,
            process: rand::rng().random(),
            lines: AtomicU64::new(0),
            pending: Mutex::default(),
            refusals: Mutex::default(),
            batch: tokio::sync::Mutex::default(),
            more: Notify::new(),
            counts: Arc::default(),
        })))
    }

    /// Whether it keeps anything.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns what counts its lines.
    pub(crate) fn counts(&self) -> Arc<Counts> {
        self.0
            .as_ref()
            .map_or_else(Arc::default, |log| log.counts.clone())
    }

    /// Returns a line that says when and who, and nothing else yet.
    pub(super) fn entry(&self, action: &'static str, actor: Actor) -> Entry {
        match &self.0 {
            Some(log) => Entry::new(log.store.now(), log.id(), action, actor),
            None => Entry::new(Timestamp::UNIX_EPOCH, String::new(), action, actor),
        }
    }

    /// Takes a line. Does not wait; where too much waits already, the line is lost, and counted.
    pub(super) fn add(&self, entry: &Entry) {
        if let Some(log) = &self.0 {
            log.add(entry);
        }
    }

    /// Takes a refusal, which may be counted only.
    pub(super) fn refused(&self, address: Option<IpAddr>, entry: Entry) {
        self.refuse(entry, |refusals, entry| refusals.refused(address, entry));
    }

    /// Takes a refusal of somebody who may come back and say who he is.
    pub(super) fn challenged(&self, address: Option<IpAddr>, entry: Entry) {
        self.refuse(entry, |refusals, entry| refusals.challenged(address, entry));
    }

    fn refuse(&self, entry: Entry, take: impl FnOnce(&mut Refusals, Entry) -> Option<Entry>) {
        let Some(log) = &self.0 else {
            return;
        };
        log.counts.refusals.add(1);
        let line = take(&mut lock(&log.refusals), entry);
        match line {
            Some(line) => log.add(&line),
            // Somebody has to look when it is due.
            None => log.more.notify_one(),
        }
    }

    /// Takes note that somebody was let into a repository.
    pub(super) fn admitted(&self, address: IpAddr, repository: &RepositoryName) {
        if let Some(log) = &self.0 {
            lock(&log.refusals).admitted(address, repository.to_string());
        }
    }

    /// Writes what waits. Whoever gives up waiting for this loses nothing.
    ///
    /// # Errors
    /// Of the store; the lines stay, and are written later.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        match &self.0 {
            Some(log) => log.flush().await,
            None => Ok(()),
        }
    }

    /// Writes lines now and then until the server stops.
    pub(crate) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let Some(log) = &self.0 else {
            return;
        };
        let stopped = async {
            // An error says that the server is gone already.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        };
        tokio::select! {
            () = stopped => {}
            () = log.write_on() => {}
        }
    }

    /// Writes all that is left. What the store does not take within some seconds is lost, and
    /// the log of the process says so.
    pub async fn close(&self) {
        let Some(log) = &self.0 else {
            return;
        };
        log.take_due(true);
        for attempt in 1.. {
            let Err(error) = log.flush().await else {
                return;
            };
            let cause = causes(&error);
            if attempt == LAST_ATTEMPTS {
                tracing::error!(cause, "the last lines of the audit log are lost");
                return;
            }
            tracing::warn!(cause, "cannot write the audit log");
            sleep(PAUSE).await;
        }
    }
}

impl Inner {
    fn id(&self) -> String {
        let number = self.lines.fetch_add(1, Relaxed);
        format!("{:08x}{number:010x}", self.process)
    }

    fn add(&self, entry: &Entry) {
        let mut line = Vec::with_capacity(KIB);
        lines::write(entry, &mut line);
        let mut pending = lock(&self.pending);
        if pending.lines.len() + line.len() > PENDING_MAX {
            pending.lost += 1;
            drop(pending);
            self.counts.lost.add(1);
            return;
        }
        let before = pending.lines.len();
        pending.add(entry.time, &line);
        let now = pending.lines.len();
        drop(pending);
        self.counts.lines.add(1);
        let much = before < PENDING_MUCH && now >= PENDING_MUCH;
        if before == 0 || much {
            self.more.notify_one();
        }
    }

    fn is_much(&self) -> bool {
        lock(&self.pending).lines.len() >= PENDING_MUCH
    }

    /// Takes the lines of refusals that are due, and returns whether others will be.
    fn take_due(&self, all: bool) -> bool {
        let mut refusals = lock(&self.refusals);
        if refusals.is_empty() {
            return false;
        }
        let due = refusals.due(self.store.now(), all, || self.id());
        let waiting = !refusals.is_empty();
        drop(refusals);
        for entry in due {
            self.add(&entry);
        }
        waiting
    }

    /// Takes what waits, for one object.
    fn take(&self) -> Option<Batch> {
        let pending = std::mem::take(&mut *lock(&self.pending));
        let Pending {
            mut lines,
            mut times,
            lost,
        } = pending;
        if lost > 0 {
            let actor = Actor::unnamed(kind::REGISTRY);
            let mut entry = Entry::new(self.store.now(), self.id(), action::LOST, actor);
            entry.more = Some(lost);
            entry.reason = Some("more came than could be written".to_owned());
            lines::write(&entry, &mut lines);
            times = span(times, entry.time);
        }
        let (first, last) = times?;
        Some(Batch {
            lines: lines.into(),
            first,
            last,
        })
    }

    async fn flush(&self) -> Result<(), StoreError> {
        let mut batch = self.batch.lock().await;
        // What failed before, and what has come since.
        for _ in 0..2 {
            if batch.is_none() {
                *batch = self.take();
            }
            let Some(Batch { lines, first, last }) = batch.clone() else {
                break;
            };
            let written = self.store.put_audit(first, last, lines).await;
            written.inspect_err(|_| self.counts.failures.add(1))?;
            *batch = None;
        }
        Ok(())
    }

    async fn write_on(&self) {
        let mut waiting = false;
        loop {
            if !waiting {
                self.more.notified().await;
            }
            let together = async {
                while !self.is_much() {
                    self.more.notified().await;
                }
            };
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = together => {}
            }
            waiting = self.take_due(false);
            let mut failed = false;
            while let Err(error) = self.flush().await {
                if !failed {
                    let cause = causes(&error);
                    tracing::error!(cause, "cannot write the audit log; it is tried again");
                }
                failed = true;
                sleep(AGAIN).await;
            }
            if failed {
                tracing::info!("the audit log is written again");
            }
            // What came while we wrote has said so, and may have been written with it.
            waiting |= lock(&self.pending).times.is_some();
        }
    }
}

impl Pending {
    fn add(&mut self, time: Timestamp, line: &[u8]) {
        self.lines.extend_from_slice(line);
        self.times = span(self.times, time);
    }
}

fn span(times: Option<(Timestamp, Timestamp)>, time: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let (first, last) = times.unwrap_or((time, time));
    Some((first.min(time), last.max(time)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Question, read};

    fn add(log: &AuditLog, number: u64) {
        let mut entry = log.entry(action::LOGIN, Actor::unnamed(kind::USER));
        entry.reference = Some(number.to_string());
        log.add(&entry);
    }

    async fn stored(store: &Store) -> Vec<Entry> {
        let question = Question {
            limit: 1_000_000,
            ..Question::default()
        };
        let mut entries = read(store, &question).await.unwrap().entries;
        entries.iter_mut().for_each(|entry| entry.id.clear());
        entries
    }

    #[tokio::test]
    async fn lines_that_come_together_are_one_object() {
        let store = Store::memory();
        let log = AuditLog::new(store.clone());
        let (stopper, stopping) = watch::channel(false);
        let running = tokio::spawn(log.clone().run(stopping));
        for number in 0..100 {
            add(&log, number);
        }
        log.flush().await.unwrap();
        log.flush().await.unwrap();
        let lines = stored(&store).await;
        let numbers = lines.iter().map(|entry| entry.reference.clone().unwrap());
        assert!(numbers.eq((0..100).map(|number: u32| number.to_string())));
        let objects: Vec<_> = objects(&store).await;
        assert_eq!(objects.len(), 1);
        // What nobody asks for is written too.
        add(&log, 100);
        while objects_of(&store).await < 2 {
            tokio::task::yield_now().await;
        }
        add(&log, 101);
        stopper.send_replace(true);
        running.await.unwrap();
        log.close().await;
        assert_eq!(stored(&store).await.len(), 102);
    }

    async fn objects(store: &Store) -> Vec<crate::store::AuditObject> {
        use futures::TryStreamExt as _;
        store.audit_objects(None).try_collect().await.unwrap()
    }

    async fn objects_of(store: &Store) -> usize {
        objects(store).await.len()
    }

    #[tokio::test]
    async fn lines_without_room_are_counted_and_the_next_one_says_how_many() {
        let store = Store::memory();
        let log = AuditLog::new(store.clone());
        let mut added = 0;
        while log.counts().lost.get() < 3 {
            add(&log, added);
            added += 1;
        }
        assert_eq!(log.counts().lines.get(), added - 3);
        log.close().await;
        let lines = stored(&store).await;
        assert_eq!(lines.len() as u64, added - 3 + 1);
        let last = lines.last().unwrap();
        assert_eq!((&*last.action, last.more), (action::LOST, Some(3)));
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_loses_no_line() {
        let store = Store::memory();
        let log = AuditLog::new(store.clone());
        for number in 0..10 {
            add(&log, number);
            let mut flush = Box::pin(log.flush());
            // As far as it gets without waiting.
            let _ = futures::poll!(&mut flush);
        }
        log.close().await;
        assert_eq!(stored(&store).await.len(), 10);
    }
}
