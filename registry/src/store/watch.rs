//! Waiting for tags to move. `manifests` and `tags` announce every change that is made through
//! this process; changes made through others are looked for, once a second for each tag that
//! somebody waits for, however many they are. The long poll waits here.
//!
//! An announcement says only: look again. What a tag means stands in the store alone.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use deploy_spec::{Digest, RepositoryName, Tag};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, MissedTickBehavior},
};

/// Time between two looks at a tag that another process may move.
pub(super) const POLL: Duration = Duration::from_secs(1);

type Place = (RepositoryName, Tag);

/// The tags that somebody waits for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watches(Arc<Mutex<HashMap<Place, Watched>>>);

/// A tag that somebody waits for.
#[derive(Debug)]
struct Watched {
    sender: watch::Sender<()>,
    _poller: Option<Poller>,
}

/// Looks at a tag now and then, until dropped.
#[derive(Debug)]
struct Poller(AbortHandle);

impl Drop for Poller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Somebody who waits for a tag.
pub struct TagWatch {
    watches: Watches,
    place: Place,
    receiver: Option<watch::Receiver<()>>,
}

impl Watches {
    /// Returns a watch that sees every change from now on that is announced.
    pub(crate) fn watch(&self, repository: &RepositoryName, tag: &Tag) -> TagWatch {
        self.enter((repository.clone(), tag.clone()), || None)
    }

    /// Returns a watch that sees every change from now on: `look`, which returns what the tag
    /// means, is called once in `period` while anybody has a watch of the tag.
    pub(crate) fn watch_polling<F>(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        period: Duration,
        look: impl Fn() -> F + Send + 'static,
    ) -> TagWatch
    where
        F: Future<Output = Option<Digest>> + Send + 'static,
    {
        let place = (repository.clone(), tag.clone());
        let (watches, polled) = (self.clone(), place.clone());
        self.enter(place, || {
            let polling = tokio::spawn(watches.poll(polled, period, look));
            Some(Poller(polling.abort_handle()))
        })
    }

    fn enter(&self, place: Place, poller: impl FnOnce() -> Option<Poller>) -> TagWatch {
        let mut watched = self.lock();
        let entry = watched.entry(place.clone()).or_insert_with(|| Watched {
            sender: watch::Sender::new(()),
            _poller: poller(),
        });
        TagWatch {
            receiver: Some(entry.sender.subscribe()),
            watches: self.clone(),
            place,
        }
    }

    async fn poll<F>(self, (repository, tag): Place, period: Duration, look: impl Fn() -> F)
    where
        F: Future<Output = Option<Digest>>,
    {
        let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = look().await;
        // Whoever came first may have looked before us, and the tag may have moved in between.
        self.announce(&repository, &tag);
        loop {
            ticks.tick().await;
            let found = look().await;
            if found != seen {
                seen = found;
                self.announce(&repository, &tag);
            }
        }
    }

    /// Wakes everybody who waits for the tag.
    pub(crate) fn announce(&self, repository: &RepositoryName, tag: &Tag) {
        let watched = self.lock();
        if watched.is_empty() {
            return;
        }
        if let Some(entry) = watched.get(&(repository.clone(), tag.clone())) {
            entry.sender.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TagWatch {
    /// Returns once something was announced since the watch began or since the last return.
    pub async fn changed(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            // The sender lives as long as there are receivers.
            let _ = receiver.changed().await;
        }
    }
}

impl fmt::Debug for TagWatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TagWatch({}:{})", self.place.0, self.place.1)
    }
}

impl Drop for TagWatch {
    fn drop(&mut self) {
        self.receiver = None;
        let mut watched = self.watches.lock();
        if watched
            .get(&self.place)
            .is_some_and(|entry| entry.sender.receiver_count() == 0)
        {
            watched.remove(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn every_watch_of_the_tag_wakes_and_the_last_one_leaves_nothing() {
        let watches = Watches::default();
        let repository: RepositoryName = "a/b".parse().unwrap();
        let tag: Tag = "latest".parse().unwrap();
        let mut one = watches.watch(&repository, &tag);
        let mut other = watches.watch(&repository, &tag);
        watches.announce(&repository, &"v1".parse().unwrap());
        assert!(one.changed().now_or_never().is_none());
        watches.announce(&repository, &tag);
        one.changed().await;
        other.changed().await;
        assert!(one.changed().now_or_never().is_none());
        drop(one);
        assert_eq!(watches.lock().len(), 1);
        drop(other);
        assert_eq!(watches.lock().len(), 0);
    }

    #[tokio::test]
    async fn many_watches_cost_one_look_a_period_and_none_when_they_are_gone() {
        const PERIOD: Duration = Duration::from_millis(20);
        let watches = Watches::default();
        let repository: RepositoryName = "a/b".parse().unwrap();
        let tag: Tag = "latest".parse().unwrap();
        let looks = Arc::new(AtomicUsize::new(0));
        let meaning = Arc::new(Mutex::new(Digest::sha256(b"1")));
        let start = Instant::now();
        let mut waiting: Vec<_> = (0..50)
            .map(|_| {
                let (looks, meaning) = (looks.clone(), meaning.clone());
                watches.watch_polling(&repository, &tag, PERIOD, move || {
                    looks.fetch_add(1, Ordering::Relaxed);
                    let now = Some(meaning.lock().unwrap().clone());
                    std::future::ready(now)
                })
            })
            .collect();
        for one in &mut waiting {
            one.changed().await;
        }
        while looks.load(Ordering::Relaxed) < 5 {
            tokio::time::sleep(PERIOD).await;
        }
        let periods = start.elapsed().as_millis() / PERIOD.as_millis();
        assert!(looks.load(Ordering::Relaxed) as u128 <= periods + 1);
        assert!(waiting[7].changed().now_or_never().is_none());
        *meaning.lock().unwrap() = Digest::sha256(b"2");
        for one in &mut waiting {
            one.changed().await;
        }
        drop(waiting);
        tokio::task::yield_now().await;
        let before = looks.load(Ordering::Relaxed);
        tokio::time::sleep(5 * PERIOD).await;
        assert_eq!(looks.load(Ordering::Relaxed), before);
    }
}
