//! A world of several replicas over one object store in memory, in simulated time: every
//! operation takes a while before and after it is done, sometimes hours, so that what runs at
//! the same time is interleaved; and a replica can die at any operation, with a delete of its
//! still on the way. The same seed gives the same history.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use deploy_registry::{Store, store::Clock};
use futures::{StreamExt as _, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
    memory::InMemory,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use tokio::{sync::Notify, time::Instant};

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
        Replica {
            world: self.clone(),
            left: Arc::new(AtomicUsize::new(operations)),
            died: Arc::new(Notify::new()),
        }
    }

    /// Returns all keys with the sizes of their objects.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let listing = self.0.store.list(None);
        listing
            .map(|meta| meta.unwrap().location.to_string())
            .collect()
            .await
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
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    world: World,
    left: Arc<AtomicUsize>,
    died: Arc<Notify>,
}

impl Replica {
    pub(crate) fn store(&self) -> Store {
        Store::multipart(self.clone()).with_clock(self.world.clock())
    }

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

    async fn operation<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.world.wait().await;
        if self.dies() {
            // Half of the time, it was done all the same.
            if self.world.below(2) == 0 {
                let _ = work.await;
            }
            return std::future::pending().await;
        }
        let done = work.await;
        self.world.wait().await;
        done
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Replica")
    }
}

#[async_trait]
impl ObjectStore for Replica {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.operation(async {
            let done = self.world.0.store.put_opts(location, payload, opts).await;
            if done.is_ok() {
                self.world.note(location);
            }
            done
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.world.0.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.operation(self.world.0.store.get_opts(location, options))
            .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    this.world.wait().await;
                    if this.dies() {
                        // The request is on its way, and is refused when it is too old.
                        let late = this.world.below(14 * 60);
                        let (store, location) = (this.world.0.store.clone(), location.clone());
                        tokio::spawn(async move {
                            tokio::time::sleep(Duration::from_secs(late)).await;
                            let _ = store.delete(&location).await;
                        });
                        std::future::pending::<()>().await;
                    }
                    this.world.0.store.delete(&location).await?;
                    this.world.wait().await;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        // As it is when it is asked for; what happens meanwhile is not seen.
        let this = self.clone();
        let prefix = prefix.cloned();
        futures::stream::once(async move {
            let _ = this.operation(async { Ok(()) }).await;
            let world = this.world.clone();
            let listing = this.world.0.store.list(prefix.as_ref());
            listing.map(move |meta| Ok(world.dated(meta?)))
        })
        .flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.world.0.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.world.0.store.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Replica {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.operation(self.world.0.store.create_multipart(path))
            .await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.operation(self.world.0.store.put_part(path, id, part_idx, data))
            .await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.operation(async {
            let done = (self.world.0.store.complete_multipart(path, id, parts)).await;
            self.world.note(path);
            done
        })
        .await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.operation(self.world.0.store.abort_multipart(path, id))
            .await
    }
}
