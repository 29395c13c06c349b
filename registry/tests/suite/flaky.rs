//! An object store in memory whose operations fail now and then: refused, done but not said so,
//! late, too late, or torn while they are read. What is stored is shared by all that are made
//! from one, as by replicas over one bucket.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId,
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
    memory::InMemory,
    multipart::{MultipartStore, PartId},
    path::Path,
};

const SLOW: Duration = Duration::from_millis(40);
const HANGING: Duration = Duration::from_millis(150);

/// A way in which an operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Refused,
    Lost,
    Slow,
    HangingBefore,
    HangingAfter,
    Torn,
}

const FAULTS: [Fault; 6] = [
    Fault::Refused,
    Fault::Lost,
    Fault::Slow,
    Fault::HangingBefore,
    Fault::HangingAfter,
    Fault::Torn,
];

/// The store. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Flaky(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: InMemory,
    state: AtomicU64,
    percent: AtomicU64,
    struck: [AtomicU64; FAULTS.len()],
    /// Multipart uploads that were begun, and that somebody was told of.
    open: Mutex<HashSet<MultipartId>>,
}

impl Flaky {
    /// Returns an empty one, which is sound until told otherwise.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Inner {
            store: InMemory::new(),
            state: AtomicU64::new(seed),
            percent: AtomicU64::new(0),
            struck: std::array::from_fn(|_| AtomicU64::new(0)),
            open: Mutex::default(),
        }))
    }

    /// Lets so many operations of a hundred go wrong from now on.
    pub(crate) fn set_percent(&self, percent: u64) {
        self.0.percent.store(percent, Ordering::SeqCst);
    }

    /// Returns how often each fault struck.
    pub(crate) fn struck(&self) -> Vec<u64> {
        let struck = self.0.struck.iter();
        struck.map(|count| count.load(Ordering::SeqCst)).collect()
    }

    /// Returns how many multipart uploads are neither completed nor aborted.
    pub(crate) fn open_multipart_uploads(&self) -> usize {
        self.0.open.lock().unwrap().len()
    }

    /// Returns what is in it, past all faults.
    pub(crate) fn content(&self) -> &InMemory {
        &self.0.store
    }

    /// A number that the next call does not repeat (splitmix64).
    fn random(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.state.fetch_add(step, Ordering::SeqCst);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn draw(&self) -> Option<Fault> {
        if self.random() % 100 >= self.0.percent.load(Ordering::SeqCst) {
            return None;
        }
        let place = usize::try_from(self.random() % FAULTS.len() as u64).unwrap();
        self.0.struck[place].fetch_add(1, Ordering::SeqCst);
        Some(FAULTS[place])
    }

    async fn operation<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.draw() {
            None | Some(Fault::Torn) => work.await,
            Some(Fault::Refused) => Err(error(std::io::ErrorKind::ConnectionRefused)),
            Some(Fault::Lost) => work
                .await
                .and(Err(error(std::io::ErrorKind::ConnectionReset))),
            Some(Fault::Slow) => {
                tokio::time::sleep(SLOW).await;
                work.await
            }
            Some(Fault::HangingBefore) => {
                tokio::time::sleep(HANGING).await;
                Err(error(std::io::ErrorKind::TimedOut))
            }
            Some(Fault::HangingAfter) => {
                let done = work.await;
                tokio::time::sleep(HANGING).await;
                done.and(Err(error(std::io::ErrorKind::TimedOut)))
            }
        }
    }
}

fn error(kind: std::io::ErrorKind) -> Error {
    Error::Generic {
        store: "Flaky",
        source: std::io::Error::from(kind).into(),
    }
}

/// Half of what was asked for, and then nothing more.
fn torn(bytes: Bytes) -> BoxStream<'static, Result<Bytes>> {
    let half = bytes.slice(..bytes.len() / 2);
    let broken = Err(error(std::io::ErrorKind::UnexpectedEof));
    futures::stream::iter([Ok(half), broken]).boxed()
}

impl fmt::Display for Flaky {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Flaky")
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.operation(self.0.store.put_opts(location, payload, opts))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.operation(self.0.store.put_multipart_opts(location, opts))
            .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let mut found = self
            .operation(self.0.store.get_opts(location, options))
            .await?;
        let is_torn = !is_head && self.draw() == Some(Fault::Torn);
        if is_torn {
            found.payload = match found.payload {
                GetResultPayload::Stream(stream) => {
                    let pieces: Vec<Bytes> = stream.try_collect().await?;
                    GetResultPayload::Stream(torn(pieces.concat().into()))
                }
                file => file,
            };
        }
        Ok(found)
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
                    this.operation(this.0.store.delete(&location)).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let prefix = prefix.cloned();
        futures::stream::once(async move {
            this.operation(async { Ok(this.0.store.list(prefix.as_ref())) })
                .await
        })
        .flat_map(|listing| match listing {
            Ok(listing) => listing,
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        })
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.operation(self.0.store.list_with_delimiter(prefix))
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.operation(self.0.store.copy_opts(from, to, options))
            .await
    }
}

#[async_trait]
impl MultipartStore for Flaky {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        // One that nobody was told of is for the bucket's own rules to end.
        let id = self.operation(self.0.store.create_multipart(path)).await?;
        self.0.open.lock().unwrap().insert(id.clone());
        Ok(id)
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.operation(self.0.store.put_part(path, id, part_idx, data))
            .await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let complete = async {
            let done = self.0.store.complete_multipart(path, id, parts).await?;
            self.0.open.lock().unwrap().remove(id);
            Ok(done)
        };
        self.operation(complete).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        // One whose end is refused is for the bucket's own rules too: nobody can ask for it again.
        self.0.open.lock().unwrap().remove(id);
        self.operation(self.0.store.abort_multipart(path, id)).await
    }
}
