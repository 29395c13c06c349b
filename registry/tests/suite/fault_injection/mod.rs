//! Two replicas and a collector over a store that fails now and then, under a mixed load: what
//! was acknowledged is there in the end, what went wrong was said in the proper form, and
//! nothing stays that nobody needs. In memory, and on an S3 server behind a proxy.

mod pusher;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use deploy_registry::{
    ServerSettings, Store,
    jobs::{Gc, collect},
    store::{Clock, Others, Progress},
};
use deploy_spec::Digest;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};
use reqwest::Client;
use serde_json::Value;

use crate::{
    faulty_proxy::{Behind, FaultyProxy},
    flaky::Flaky,
    harness::{TestRegistry, header},
};
use pusher::{Act, Image, Known, Pusher};

const CLIENTS: u64 = 6;
const PERCENT: u64 = 5;
/// Uploads that nothing arrives for end after so many times the grace.
const EXPIRY: u32 = 4;
/// What lets a store fail.
trait Failing: Send + Sync {
    /// Lets so many operations of a hundred go wrong from now on.
    fn set_percent(&self, percent: u64);

    /// Returns how often each kind of fault struck.
    fn struck(&self) -> Vec<u64>;

    /// Returns how many multipart uploads are left that somebody was told of.
    fn open_multipart_uploads(&self) -> usize;
}

impl Failing for Flaky {
    fn set_percent(&self, percent: u64) {
        (**self).set_percent(percent);
    }

    fn struck(&self) -> Vec<u64> {
        (**self).struck()
    }

    fn open_multipart_uploads(&self) -> usize {
        (**self).open_multipart_uploads()
    }
}

impl Failing for FaultyProxy {
    fn set_percent(&self, percent: u64) {
        FaultyProxy::set_percent(self, percent);
    }

    fn struck(&self) -> Vec<u64> {
        FaultyProxy::struck(self)
    }

    fn open_multipart_uploads(&self) -> usize {
        let (known, _unknown) = FaultyProxy::open_multipart_uploads(self);
        known
    }
}

/// A store that fails, seen from two replicas, and as it is.
struct Scene {
    replicas: [Store; 2],
    faults: Arc<dyn Failing>,
    /// For who collects when nothing fails any more.
    collector: Store,
    /// For who reads afterwards, past all faults.
    reader: Store,
    raw: Arc<dyn ObjectStore>,
    /// Longer than any push takes, and short enough that what the clients leave is collected
    /// while they go on.
    grace: Duration,
}

/// Returns how long clients push, pull and delete.
fn time() -> Duration {
    match std::env::var_os("DEPLOY_TESTS_LONG") {
        Some(_) => Duration::from_secs(120),
        None => Duration::from_secs(10),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_acknowledged_is_lost_and_nothing_useless_stays_in_memory() {
    let flaky = Flaky::new(0x5eed);
    let store = || Store::multipart(flaky.clone());
    let scene = Scene {
        replicas: [store(), store()],
        faults: Arc::new(flaky.clone()),
        collector: store(),
        reader: Store::multipart(flaky.content().clone()),
        raw: Arc::new(flaky.content().clone()),
        grace: Duration::from_secs(5),
    };
    play(scene, async || ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_acknowledged_is_lost_and_nothing_useless_stays_on_minio() {
    let test = "nothing_acknowledged_is_lost_and_nothing_useless_stays_on_minio";
    let Some(behind) = Behind::on_minio(test).await else {
        return;
    };
    let place = &behind.place;
    let scene = Scene {
        replicas: [
            behind.impatient_store().await,
            behind.impatient_store().await,
        ],
        collector: behind.store().await,
        reader: place.store().await,
        raw: place.raw(),
        grace: Duration::from_secs(8),
        faults: Arc::new(behind.proxy.clone()),
    };
    play(scene, async || behind.proxy.settled().await).await;
}

/// Plays the scene to its end; `settled` returns when nothing is on its way to the store.
async fn play(scene: Scene, settled: impl AsyncFnOnce()) {
    let Scene {
        replicas,
        faults,
        collector,
        reader,
        raw,
        grace,
    } = scene;
    let mut settings = ServerSettings::default();
    settings.upkeep.gc_interval = Some(Duration::from_secs(1));
    settings.upkeep.interval = Duration::from_secs(1);
    settings.upkeep.gc_grace = grace;
    settings.upkeep.gc_rate = 0;
    settings.upkeep.upload_expiry = EXPIRY * grace;
    let [first, second] = replicas;
    let replicas = [
        TestRegistry::with(first, settings.clone()).await,
        TestRegistry::with(second, settings).await,
    ];
    let urls: Vec<String> = replicas.iter().map(|replica| replica.url.clone()).collect();
    let client = Client::builder().no_proxy().build().unwrap();
    faults.set_percent(PERCENT);
    let act = Arc::new(Act {
        until: Instant::now() + time(),
        faults: faults.clone(),
        failed: AtomicU64::new(0),
        pushed: AtomicU64::new(0),
    });
    let pushers: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let pusher = Pusher {
                client: client.clone(),
                act: act.clone(),
                grace,
                urls: urls.clone(),
                number,
                turn: usize::try_from(number).unwrap(),
                known: Known::default(),
            };
            tokio::spawn(pusher.work())
        })
        .collect();
    let mut known = Vec::new();
    for pusher in pushers {
        known.push(pusher.await.unwrap());
    }
    for replica in replicas {
        replica.stop().await.unwrap();
    }
    faults.set_percent(0);
    settled().await;
    assert!(
        faults.struck().iter().all(|count| *count > 0),
        "{:?}",
        faults.struck()
    );
    let reader = TestRegistry::start(reader).await;
    let mut needed = BTreeSet::new();
    let mut images = 0;
    for Known {
        images: pushed,
        deleted,
        uncertain,
    } in &known
    {
        for tag in uncertain {
            remove(&client, &reader.url, tag).await;
        }
        for image in pushed {
            check(&client, &reader.url, image).await;
            needed.extend(image.blobs.iter().map(Digest::to_string));
            images += 1;
        }
        for tag in deleted {
            let gone = client
                .get(format!("{}/v2/a/manifests/{tag}", reader.url))
                .send();
            assert_eq!(gone.await.unwrap().status(), 404, "{tag}");
        }
    }
    assert!(images > 0);
    let failed = act.failed.load(Ordering::SeqCst);
    assert!(failed > 0, "nobody noticed");
    reader.stop().await.unwrap();
    collect_everything(collector).await;
    assert_no_litter(&*raw, &needed, images).await;
    assert_eq!(faults.open_multipart_uploads(), 0);
}

/// Removes an image, where it is there.
async fn remove(client: &Client, url: &str, tag: &str) {
    let target = format!("{url}/v2/a/manifests/{tag}");
    let found = client.head(target).send().await.unwrap();
    if found.status() == 200 {
        let digest = header(&found, "docker-content-digest");
        let target = format!("{url}/v2/a/manifests/{digest}");
        let deleted = client.delete(target).send().await.unwrap();
        assert_eq!(deleted.status(), 202);
    }
}

async fn check(client: &Client, url: &str, image: &Image) {
    let get = async |target: String| {
        let answer = client.get(format!("{url}{target}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{target}");
        Digest::sha256(&answer.bytes().await.unwrap())
    };
    let tag = get(format!("/v2/a/manifests/{}", image.tag)).await;
    assert_eq!(tag, image.manifest);
    for blob in &image.blobs {
        assert_eq!(get(format!("/v2/a/blobs/{blob}")).await, *blob);
    }
}

/// Collects with nobody else there, as some time after the last replica has ended: what a
/// collector was about to remove when it failed is left to it for twenty minutes.
async fn collect_everything(store: Store) {
    let later = || Timestamp::now() + SignedDuration::from_mins(30);
    let store = store.with_clock(Clock::new(later));
    let gc = Gc {
        grace: Duration::ZERO,
        rate: 0,
        upload_expiry: Duration::ZERO,
        retention: Default::default(),
        dry_run: false,
    };
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let progress = Progress::default();
    (collect(&store, &gc, Others::Offline, &progress, stopping).await).unwrap();
}

/// Holds what is in the store to what is needed.
async fn assert_no_litter(raw: &dyn ObjectStore, needed: &BTreeSet<String>, images: usize) {
    let objects: Vec<_> = raw.list(None).try_collect().await.unwrap();
    let keys: Vec<&str> = objects.iter().map(|meta| meta.location.as_ref()).collect();
    let below = |prefix: &str| -> Vec<&str> {
        let keys = keys.iter().copied();
        keys.filter(|key| key.starts_with(prefix)).collect()
    };
    let last = |key: &&str| format!("sha256:{}", key.rsplit('/').next().unwrap_or_default());
    let digests = |prefix| below(prefix).iter().map(last).collect::<BTreeSet<_>>();
    assert_eq!(digests("blobs/"), *needed);
    assert_eq!(digests("repos/a/_blobs/"), *needed);
    for kind in ["repos/a/_manifests/", "repos/a/_tags/"] {
        let there = below(kind);
        assert_eq!(there.len(), images, "{there:#?}");
    }
    assert_eq!(below("uploads/"), Vec::<&str>::new());
    let mut named = BTreeSet::new();
    for key in below("blobs/") {
        let record = raw.get(&Path::from(key)).await.unwrap();
        let record = record.bytes().await.unwrap();
        let line = record.split(|byte| *byte == b'\n').next().unwrap();
        let header: Value = serde_json::from_slice(line).unwrap();
        if let Some(data) = header["data"].as_str() {
            named.insert(format!("data/{}/{}", &data[..2], &data[2..]));
        }
    }
    let data: BTreeSet<String> = below("data/").into_iter().map(str::to_owned).collect();
    assert_eq!(data, named);
}
