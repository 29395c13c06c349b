//! An object store in memory whose operations fail now and then: refused, done but not said so,
//! late, too late, or torn while they are read. What is stored is shared by all that are made
//! from one, as by replicas over one bucket.

use std::{
    collections::HashSet,
    io::ErrorKind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{Error, GetResult, GetResultPayload, MultipartId, Result, memory::InMemory};

use crate::hooked::{Hook, Hooked, Kind, Operation};

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

/// A store whose operations fail now and then.
pub(crate) type Flaky = Hooked<Faults>;

/// What goes wrong, how often.
#[derive(Clone, Debug)]
pub(crate) struct Faults(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: AtomicU64,
    percent: AtomicU64,
    struck: [AtomicU64; FAULTS.len()],
    /// Multipart uploads that were begun, and that somebody was told of.
    open: Mutex<HashSet<MultipartId>>,
}

impl Flaky {
    /// Returns an empty one, which is sound until told otherwise.
    pub(crate) fn new(seed: u64) -> Self {
        let faults = Faults(Arc::new(Inner {
            state: AtomicU64::new(seed),
            percent: AtomicU64::new(0),
            struck: std::array::from_fn(|_| AtomicU64::new(0)),
            open: Mutex::default(),
        }));
        Self::over(InMemory::new(), faults)
    }
}

impl Faults {
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
}

fn error(kind: ErrorKind) -> Error {
    Error::Generic {
        store: "Flaky",
        source: std::io::Error::from(kind).into(),
    }
}

/// Half of what was asked for, and then nothing more.
fn torn(stream: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
    let pieces = async {
        let bytes: Bytes = stream.try_collect::<Vec<_>>().await?.concat().into();
        let half = bytes.slice(..bytes.len() / 2);
        let broken = Err(error(ErrorKind::UnexpectedEof));
        Ok::<_, Error>(futures::stream::iter([Ok(half), broken]))
    };
    futures::stream::once(pieces).try_flatten().boxed()
}

impl Hook for Faults {
    async fn around<T: Send>(
        &self,
        operation: Operation<'_>,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let ended = || {
            let open = &self.0.open;
            operation.upload.map(|id| open.lock().unwrap().remove(id))
        };
        let work = async {
            let done = work.await?;
            if [Kind::Complete, Kind::Abort].contains(&operation.kind) {
                ended();
            }
            Ok(done)
        };
        match self.draw() {
            None | Some(Fault::Torn) => work.await,
            Some(Fault::Refused) => Err(error(ErrorKind::ConnectionRefused)),
            Some(Fault::Lost) => work.await.and(Err(error(ErrorKind::ConnectionReset))),
            Some(Fault::Slow) => {
                tokio::time::sleep(SLOW).await;
                work.await
            }
            Some(Fault::HangingBefore) => {
                tokio::time::sleep(HANGING).await;
                Err(error(ErrorKind::TimedOut))
            }
            Some(Fault::HangingAfter) => {
                let done = work.await;
                tokio::time::sleep(HANGING).await;
                done.and(Err(error(ErrorKind::TimedOut)))
            }
        }
    }

    fn got(&self, mut found: GetResult) -> GetResult {
        if self.draw() == Some(Fault::Torn) {
            found.payload = match found.payload {
                GetResultPayload::Stream(stream) => GetResultPayload::Stream(torn(stream)),
                file => file,
            };
        }
        found
    }

    fn began(&self, upload: &MultipartId) {
        // One that nobody was told of is for the bucket's own rules to end.
        self.0.open.lock().unwrap().insert(upload.clone());
    }
}
