//! The store: what a registry keeps, on any object store. Knows nothing of HTTP; called by
//! `http` and `jobs`.
//!
//! ```text
//! collect  scrub  quarantine                        upkeep, beside everything else
//! blobs uploads manifests tags referrers catalog    what there is, one file a resource
//!   ingest  sessions  claims  fence  watch          taking bytes in, not colliding, waiting
//!   state  markers                                  what may be removed, and when
//! audit  nonces                                     who did what, and which logins are used up
//!     keys  record  objects  resume  data  clock    how it is laid out and written
//!       metered  meter                              counting what is asked of it
//!         local | backend: any object_store         where
//! ```

mod audit;
mod backend;
mod blobs;
mod catalog;
mod change;
mod claims;
mod clock;
mod collect;
mod data;
mod error;
mod fence;
mod held;
mod ingest;
mod keys;
mod local;
mod manifests;
mod markers;
pub(crate) mod meter;
mod metered;
mod nonces;
mod objects;
mod quarantine;
mod record;
mod redacted;
mod referrers;
mod resume;
mod rota;
mod scrub;
mod sessions;
mod state;
mod tags;
mod upload_id;
mod uploads;
mod watch;

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    path::Path,
    sync::Arc,
};

use deploy_spec::{RepositoryName, Tag};
use futures::{Stream, TryStreamExt as _};
use jiff::Timestamp;
use object_store::{ObjectStore, memory::InMemory, multipart::MultipartStore};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) use audit::AuditObject;
pub use backend::{Bucket, ConnectError, Location, LocationError, Provider};
pub use blobs::{Blob, BlobStream};
pub use change::{Change, Changes};
pub use clock::Clock;
pub(crate) use collect::Event;
pub use collect::{Collected, Collection, Counts, Kind, Mode, Others, Pace, Progress};
pub(crate) use error::causes;
pub use error::{BodyError, StoreError};
pub use manifests::{Condition, Manifest, NewManifest, Stored};
pub use objects::Content;
pub use referrers::Referrers;
pub use scrub::{Damage, Scrub, Scrubbed};
pub(crate) use tags::JudgedTag;
pub use tags::TagRecord;
pub use upload_id::{UploadId, UploadIdError};
pub use uploads::Upload;
pub use watch::TagWatch;

use claims::Claims;
use data::{BlobData, LocalData, MultipartData};
use local::LocalDirectory;
use meter::Meter;
use metered::{Metered, MeteredData};
use objects::Objects;
use watch::{POLL, Watches};

/// Repositories share locks this rarely.
const LOCKS: usize = 64;

/// Everything that a registry keeps. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    /// What it is called in the log.
    place: String,
    /// Whether other processes may change it beside us.
    shared: bool,
    objects: Objects,
    data: Box<dyn BlobData>,
    meter: Arc<Meter>,
    claims: Claims,
    watches: Watches,
    clock: Clock,
    locks: [RwLock<()>; LOCKS],
    hasher: RandomState,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What it lists.
    pub items: Vec<T>,
    /// Whether there is another one behind it.
    pub more: bool,
}

impl Store {
    /// Opens the store in a local directory, which must exist. The directory is locked until
    /// the last clone is gone.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another process serves it, [`StoreError::Directory`] where
    /// it cannot be used.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let place = directory.display().to_string();
        let directory = LocalDirectory::open(directory)?;
        let meter = Arc::new(Meter::default());
        let data = Box::new(MeteredData::new(LocalData::new(&directory), meter.clone()));
        let metered = Metered::new(directory.clone(), meter.clone());
        let objects = Objects::local(Arc::new(metered), directory);
        Ok(Self::new(place, false, objects, data, meter))
    }

    /// Returns a new store in memory, which is gone with its last clone.
    pub fn memory() -> Self {
        Self::over("memory".to_owned(), false, InMemory::new(), None)
    }

    /// Returns the store in an object store that has conditional writes (create and update)
    /// and multipart uploads. Any number of processes may serve it at a time.
    pub fn multipart(store: impl ObjectStore + MultipartStore) -> Self {
        let place = store.to_string();
        Self::over(place, true, store, None)
    }

    /// `once` is the same store by a client that tries nothing again, where `store` does.
    fn over<S: ObjectStore + MultipartStore>(
        place: String,
        shared: bool,
        store: S,
        once: Option<S>,
    ) -> Self {
        let meter = Arc::new(Meter::default());
        let store = Arc::new(Metered::new(store, meter.clone()));
        let once: Arc<dyn ObjectStore> = match once {
            Some(once) => Arc::new(Metered::new(once, meter.clone())),
            None => store.clone(),
        };
        let data = Box::new(MultipartData::new(store.clone()));
        Self::new(place, shared, Objects::new(store, once), data, meter)
    }

    fn new(
        place: String,
        shared: bool,
        objects: Objects,
        data: Box<dyn BlobData>,
        meter: Arc<Meter>,
    ) -> Self {
        Self(Arc::new(Inner {
            place,
            shared,
            objects,
            data,
            meter,
            claims: Claims::default(),
            watches: Watches::default(),
            clock: Clock::system(),
            locks: std::array::from_fn(|_| RwLock::default()),
            hasher: RandomState::new(),
        }))
    }

    /// Returns the store with another clock. Call it before the store is shared; later it does
    /// nothing.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.clock = clock;
        }
        self
    }

    /// Returns the time by the store's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Returns a watch that sees every change of the tag from now on: those made through this
    /// process at once, those made through others within about a second.
    pub fn watch_tag(&self, repository: &RepositoryName, tag: &Tag) -> TagWatch {
        let (store, name, watched) = (self.clone(), repository.clone(), tag.clone());
        let look = move || {
            let (store, repository, tag) = (store.clone(), name.clone(), watched.clone());
            async move {
                loop {
                    match store.tag(&repository, &tag).await {
                        Ok(found) => return found.map(|found| found.digest),
                        Err(error) => {
                            tracing::debug!(cause = causes(&error), "cannot look at a tag")
                        }
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
        };
        let watches = &self.0.watches;
        match self.0.shared {
            true => watches.watch_polling(repository, tag, POLL, look),
            false => watches.watch(repository, tag),
        }
    }

    /// Brings everything that is durable to its own place, so that nothing is left to be done
    /// at the next start. Call it when the store is needed no more.
    pub async fn settle(&self) -> Result<(), StoreError> {
        self.objects().settle().await
    }

    /// Returns whether other processes may change the store beside us.
    fn is_shared(&self) -> bool {
        self.0.shared
    }

    /// Returns what counts the backend's operations.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.0.meter
    }

    fn objects(&self) -> &Objects {
        &self.0.objects
    }

    fn data(&self) -> &dyn BlobData {
        &*self.0.data
    }

    fn claims(&self) -> &Claims {
        &self.0.claims
    }

    fn watches(&self) -> &Watches {
        &self.0.watches
    }

    /// Keeps deletions out of the repository while something is written that belongs together.
    /// Writers do not keep each other out.
    async fn lock_for_writing(&self, repository: &RepositoryName) -> RwLockReadGuard<'_, ()> {
        self.lock(repository).read().await
    }

    /// Keeps writers out of the repository while something is deleted that belongs together.
    async fn lock_for_deleting(&self, repository: &RepositoryName) -> RwLockWriteGuard<'_, ()> {
        self.lock(repository).write().await
    }

    /// Within this process only. Replicas of one bucket do without: there, a manifest that is
    /// deleted while it is pushed may leave its tag behind, which reads as absent.
    fn lock(&self, repository: &RepositoryName) -> &RwLock<()> {
        let hash = self.0.hasher.hash_one(repository);
        &self.0.locks[usize::try_from(hash % LOCKS as u64).expect("below 64")]
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Store({})", self.0.place)
    }
}

/// Takes up to `limit` items of a listing, and looks whether there is one more.
async fn take_page<T>(
    listing: impl Stream<Item = Result<T, StoreError>>,
    limit: usize,
) -> Result<Page<T>, StoreError> {
    let mut listing = std::pin::pin!(listing);
    let mut items = Vec::new();
    while let Some(item) = listing.try_next().await? {
        if items.len() == limit {
            return Ok(Page { items, more: true });
        }
        items.push(item);
    }
    Ok(Page { items, more: false })
}
