//! A world of several replicas over one object store in memory, in simulated time: every
//! operation takes a while before and after it is done, sometimes hours, so that what runs at
//! the same time is interleaved; and a replica can die at any operation, with a delete of its
//! still on the way. The same seed gives the same history.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use deploy_registry::{Store, store::Clock};
use jiff::{SignedDuration, Timestamp};
use object_store::{ObjectMeta, ObjectStoreExt as _, Result, memory::InMemory, path::Path};
use tokio::{sync::Notify, time::Instant};

use crate::hooked::{self, Hook, Hooked, Kind, Operation};

/// When simulated time begins, in seconds since 1970.
const EPOCH: u64 = 1_800_000_000;

/// The object store, its time, and what happens next.
#[derive(Clone, Debug)]
pub(crate) struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: InMemory,
    /// When each object was written.
    written: Mutex<HashMap<Path, Duration>>,
    random: Mutex<u64>,
    start: Instant,
    /// How long an operation takes at most; sometimes.
    slowest: Mutex<Duration>,
    /// How long a replica stands still now and then.
    pause: Mutex<Duration>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Inner {
            store: InMemory::new(),
            written: Mutex::default(),
            random: Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            start: Instant::now(),
            slowest: Mutex::new(Duration::from_secs(2)),
            pause: Mutex::new(Duration::ZERO),
        }))
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&self, limit: u64) -> u64 {
        let mut state = self.0.random.lock().unwrap();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) % limit
    }

    /// Lets replicas stand still for so long now and then.
    pub(crate) fn pause_for(&self, pause: Duration) {
        *self.0.pause.lock().unwrap() = pause;
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(EPOCH) + self.0.start.elapsed()
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::try_from(self.elapsed()).unwrap()
    }

    pub(crate) fn clock(&self) -> Clock {
        let world = self.clone();
        Clock::new(move || world.now())
    }

    /// Returns a replica that dies after so many operations.
    pub(crate) fn replica(&self, operations: usize) -> Replica {
        let life = Life {
            world: self.clone(),
            left: Arc::new(AtomicUsize::new(operations)),
            died: Arc::new(Notify::new()),
        };
        Hooked::over(self.0.store.clone(), life)
    }

    /// Returns the keys of everything that is there.
    pub(crate) async fn keys(&self) -> Vec<String> {
        hooked::keys(&self.0.store).await
    }

    async fn wait(&self) {
        let slowest = *self.0.slowest.lock().unwrap();
        let pause = *self.0.pause.lock().unwrap();
        let wait = match self.below(400) {
            0 => pause,
            1..40 => slowest,
            _ => slowest / 100,
        };
        if !wait.is_zero() {
            let wait = wait.mul_f64(self.below(1000) as f64 / 1000.0);
            tokio::time::sleep(wait).await;
        }
    }

    fn note(&self, path: &Path) {
        let elapsed = self.elapsed();
        self.0.written.lock().unwrap().insert(path.clone(), elapsed);
    }

    /// Gives an object the time at which it was written in this world.
    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let written = self.0.written.lock().unwrap();
        meta.last_modified = Default::default();
        meta.last_modified += written.get(&meta.location).copied().unwrap_or_default();
        meta
    }
}

/// One process over the store, until it dies.
pub(crate) type Replica = Hooked<Life>;

/// How long a replica lives.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    world: World,
    left: Arc<AtomicUsize>,
    died: Arc<Notify>,
}

impl Replica {
    pub(crate) fn store(&self) -> Store {
        Store::multipart(self.clone()).with_clock(self.world.clock())
    }
}

impl Life {
    /// Returns once it is dead. Nothing that it had begun goes on then.
    pub(crate) async fn death(&self) {
        self.died.notified().await;
    }

    /// Returns whether this operation is the one to die at.
    fn dies(&self) -> bool {
        let take = |left: usize| left.checked_sub(1);
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        match left {
            Ok(1) => {
                self.died.notify_one();
                true
            }
            Ok(_) => false,
            Err(_) => true,
        }
    }

    /// Deletes the object after the death of who asked for it: the request is on its way, and
    /// is refused when it is too old.
    fn delete_late(&self, key: &Path) {
        let late = Duration::from_secs(self.world.below(14 * 60));
        let (store, key) = (self.world.0.store.clone(), key.clone());
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            let _ = store.delete(&key).await;
        });
    }
}

impl Hook for Life {
    async fn around<T: Send>(
        &self,
        operation: Operation<'_>,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let work = async {
            let done = work.await?;
            if matches!(
                operation.kind,
                Kind::Put | Kind::Create | Kind::Update | Kind::Complete
            ) {
                self.world.note(operation.key);
            }
            Ok(done)
        };
        self.world.wait().await;
        if self.dies() {
            if operation.kind == Kind::Delete {
                self.delete_late(operation.key);
            } else if self.world.below(2) == 0 {
                // Half of the time, it was done all the same.
                let _ = work.await;
            }
            return std::future::pending().await;
        }
        let done = work.await;
        self.world.wait().await;
        done
    }

    fn listed(&self, meta: ObjectMeta) -> ObjectMeta {
        self.world.dated(meta)
    }
}
