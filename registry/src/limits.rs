//! What the registry takes at most: requests of one client, uploads at once, bytes of a manifest.
//! Set by `main` and again while serving; asked by `http`.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    num::{NonZeroU32, NonZeroUsize},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const MIB: usize = 1024 * 1024;
/// An upload waits for its turn this long before it is refused: a burst is no overload.
const PATIENCE: Duration = Duration::from_secs(1);
/// Clients share locks this rarely.
const SHARDS: usize = 16;
/// As many clients are told apart at once in each: 65,536 in all, in about 4 MiB.
const CLIENTS_MAX: usize = 4096;

/// What is taken at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest. The specification asks for 4 MiB at least.
    pub manifest_size: usize,
    /// Requests at once that bring an upload's bytes; any number without one.
    pub uploads: Option<NonZeroUsize>,
    /// Requests of one client; any number without one.
    pub rate: Option<Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_size: 8 * MIB,
            uploads: None,
            rate: None,
        }
    }
}

/// How many requests a client may make. One who paused may make `burst` of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// On average.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

/// Holds requests to limits. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Limiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    manifest_size: AtomicUsize,
    uploads: RwLock<Option<Arc<Semaphore>>>,
    rate: RwLock<Option<Rate>>,
    clients: Clients,
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Limiter {
    /// Returns what holds requests to these limits.
    pub fn new(limits: Limits) -> Self {
        let limiter = Self(Arc::new(Inner {
            manifest_size: AtomicUsize::new(0),
            uploads: RwLock::default(),
            rate: RwLock::default(),
            clients: Clients::new(Instant::now()),
        }));
        limiter.set(limits);
        limiter
    }

    /// Changes the limits for requests from now on. Uploads that run already are not counted.
    pub fn set(&self, limits: Limits) {
        let slots = |uploads: NonZeroUsize| {
            Arc::new(Semaphore::new(uploads.get().min(Semaphore::MAX_PERMITS)))
        };
        self.0.manifest_size.store(limits.manifest_size, Relaxed);
        *self
            .0
            .uploads
            .write()
            .unwrap_or_else(PoisonError::into_inner) = limits.uploads.map(slots);
        *self.0.rate.write().unwrap_or_else(PoisonError::into_inner) = limits.rate;
    }

    /// Returns how many bytes a manifest may hold.
    pub(crate) fn manifest_size(&self) -> usize {
        self.0.manifest_size.load(Relaxed)
    }

    /// Returns a place among the uploads, as soon as there is one.
    ///
    /// # Errors
    /// [`Busy`] where there is none for too long.
    pub(crate) async fn upload(&self) -> Result<UploadSlot, Busy> {
        let slots = (self.0.uploads.read())
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(slots) = slots else {
            return Ok(UploadSlot(None));
        };
        match tokio::time::timeout(PATIENCE, slots.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(UploadSlot(Some(permit))),
            // Never closed: the error is as good as waiting in vain.
            Ok(Err(_)) | Err(_) => Err(Busy { again: PATIENCE }),
        }
    }

    /// Counts a request of this client.
    ///
    /// # Errors
    /// [`Busy`] where it makes too many; that one is not counted.
    pub(crate) fn admit(&self, client: IpAddr, now: Instant) -> Result<(), Busy> {
        let rate = *self.0.rate.read().unwrap_or_else(PoisonError::into_inner);
        match rate {
            None => Ok(()),
            Some(rate) => self.0.clients.admit(client, rate, now),
        }
    }
}

/// A place among the uploads that run at once, until dropped.
#[derive(Debug)]
pub(crate) struct UploadSlot(#[expect(dead_code, reason = "held")] Option<OwnedSemaphorePermit>);

/// Too much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy {
    /// When to try again.
    pub(crate) again: Duration,
}

/// For each client the time at which all its requests would be served, were they served at the
/// average rate (the generic cell rate algorithm): one number, whatever it did.
#[derive(Debug)]
struct Clients {
    start: Instant,
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, u64>>; SHARDS],
}

impl Clients {
    fn new(start: Instant) -> Self {
        Self {
            start,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn admit(&self, client: IpAddr, rate: Rate, now: Instant) -> Result<(), Busy> {
        let client = identity(client);
        let now = nanoseconds(now.duration_since(self.start));
        let interval = nanoseconds(Duration::from_secs(1)) / u64::from(rate.per_second.get());
        let tolerance = interval * u64::from(rate.burst.get());
        let hash = self.hasher.hash_one(client);
        let shard = &self.shards[usize::try_from(hash % SHARDS as u64).expect("below 16")];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let served = shard.get(&client).copied().unwrap_or(0).max(now) + interval;
        if served - now > tolerance {
            let again = Duration::from_nanos(served - now - tolerance);
            return Err(Busy { again });
        }
        if shard.len() >= CLIENTS_MAX && !shard.contains_key(&client) {
            make_room(&mut shard, now);
        }
        shard.insert(client, served);
        Ok(())
    }
}

/// Forgets clients that are as good as new. Where all are busy, one of them gets off lightly.
fn make_room(shard: &mut HashMap<u64, u64>, now: u64) {
    shard.retain(|_, served| *served > now);
    if shard.len() >= CLIENTS_MAX {
        let any = shard.keys().next().copied();
        if let Some(client) = any {
            shard.remove(&client);
        }
    }
}

/// An IPv6 network of 64 bits is one client: it has all its addresses for the asking.
pub(crate) fn identity(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).expect("64 bits are left"),
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    #[test]
    fn a_burst_passes_and_then_the_average() {
        let start = Instant::now();
        let clients = Clients::new(start);
        let (rate, client) = (rate(10, 3), "192.0.2.1".parse().unwrap());
        for _ in 0..3 {
            assert_eq!(clients.admit(client, rate, start), Ok(()));
        }
        let again = Duration::from_millis(100);
        assert_eq!(clients.admit(client, rate, start), Err(Busy { again }));
        let later = start + again;
        assert_eq!(clients.admit(client, rate, later), Ok(()));
        assert_eq!(clients.admit(client, rate, later), Err(Busy { again }));
        // Another one is not held up by it; after a pause, all is forgotten.
        let other = "192.0.2.2".parse().unwrap();
        assert_eq!(clients.admit(other, rate, later), Ok(()));
        let rested = start + Duration::from_secs(10);
        for _ in 0..3 {
            assert_eq!(clients.admit(client, rate, rested), Ok(()));
        }
        assert!(clients.admit(client, rate, rested).is_err());
    }

    #[test]
    fn a_network_is_one_client() {
        let identity = |text: &str| identity(text.parse().unwrap());
        assert_eq!(identity("2001:db8::1"), identity("2001:db8::ffff:1"));
        assert_ne!(identity("2001:db8::1"), identity("2001:db8:0:1::1"));
        assert_eq!(identity("::ffff:192.0.2.1"), identity("192.0.2.1"));
    }

    #[test]
    fn memory_is_bounded_whoever_comes() {
        let start = Instant::now();
        let clients = Clients::new(start);
        for number in 0..70_000 {
            let client = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            assert_eq!(clients.admit(client, rate(1, 1), start), Ok(()));
        }
        for shard in &clients.shards {
            assert!(shard.lock().unwrap().len() <= CLIENTS_MAX);
        }
    }

    #[tokio::test]
    async fn uploads_wait_for_their_turn_and_not_for_ever() {
        let limiter = Limiter::new(Limits {
            uploads: NonZeroUsize::new(1),
            ..Limits::default()
        });
        let first = limiter.upload().await.unwrap();
        assert_eq!(
            limiter.upload().await.unwrap_err(),
            Busy { again: PATIENCE }
        );
        let (second, ()) = tokio::join!(limiter.upload(), async { drop(first) });
        assert!(second.is_ok());
        limiter.set(Limits::default());
        assert!(limiter.upload().await.is_ok());
    }
}
