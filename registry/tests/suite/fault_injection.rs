//! Two replicas and a collector over a store that fails now and then, under a mixed load: what
//! was acknowledged is there in the end, what went wrong was said in the proper form, and
//! nothing stays that nobody needs. In memory, and on an S3 server behind a proxy.

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
use reqwest::{Client, Method, Response};
use serde_json::Value;

use crate::{
    faulty_proxy::{Behind, FaultyProxy},
    flaky::Flaky,
    harness::{MANIFEST, TestRegistry, content, header, image},
};

const CLIENTS: u64 = 6;
const PERCENT: u64 = 5;
/// Uploads that nothing arrives for end after so many times the grace.
const EXPIRY: u32 = 4;
/// How much longer a busy machine may take for everything to happen once.
const PATIENCE: Duration = Duration::from_secs(120);
/// Sizes of blobs: in the record, in one piece, in several parts, in parts from the first chunk on.
const SIZES: [usize; 5] = [300, 40_000, 200_000, 6 * MIB, 11 * MIB];
const MIB: usize = 1024 * 1024;
/// Layers that several images have, one after the other pushed, needed, unneeded.
const SHARED: u64 = 3;

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

/// An image whose push was acknowledged to its end.
struct Image {
    tag: String,
    manifest: Digest,
    blobs: Vec<Digest>,
}

/// What the clients have come to know.
#[derive(Default)]
struct Known {
    images: Vec<Image>,
    /// Tags whose deletion was acknowledged.
    deleted: Vec<String>,
    /// Tags that may be there: nobody said whether their push was done.
    uncertain: Vec<String>,
}

/// What lasts until everything has happened that should, and for a while.
struct Act {
    until: Instant,
    faults: Arc<dyn Failing>,
    /// Requests that were told that the server failed.
    failed: AtomicU64,
    pushed: AtomicU64,
}

impl Act {
    fn is_over(&self) -> bool {
        let happened = |count: &AtomicU64| count.load(Ordering::SeqCst) > 0;
        let all = self.faults.struck().iter().all(|count| *count > 0)
            && happened(&self.failed)
            && happened(&self.pushed);
        let now = Instant::now();
        now > self.until && (all || now > self.until + PATIENCE)
    }
}

/// A client that speaks to either replica, request by request.
struct Pusher {
    client: Client,
    act: Arc<Act>,
    /// Longer than this, no push may take.
    grace: Duration,
    urls: Vec<String>,
    number: u64,
    turn: usize,
    known: Known,
}

impl Pusher {
    /// Sends a request to the next replica. Nothing comes back from one that failed as it
    /// should: with an error of the server's, in an envelope.
    async fn send(
        &mut self,
        method: Method,
        target: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Option<Response> {
        self.turn += 1;
        let url = format!("{}{target}", self.urls[self.turn % self.urls.len()]);
        let request = self
            .client
            .request(method.clone(), url)
            .header("content-type", content_type)
            .body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => panic!("{target}: {error:?}"),
        };
        let status = response.status();
        if !status.is_server_error() && status.as_u16() != 429 {
            return Some(response);
        }
        self.act.failed.fetch_add(1, Ordering::SeqCst);
        if method != Method::HEAD {
            let body: Value = response.json().await.unwrap();
            assert!(body["errors"][0]["code"].is_string(), "{target}: {body}");
            assert!(body["errors"][0]["message"].is_string(), "{target}: {body}");
        }
        None
    }

    /// Pushes a blob until that is acknowledged, or the act is over.
    async fn push_blob(&mut self, bytes: &[u8]) -> Option<Digest> {
        let digest = Digest::sha256(bytes);
        for attempt in 0.. {
            let pushed = match (attempt + bytes.len() as u64 + self.number) % 3 {
                0 => self.push_in_chunks(bytes, &digest).await,
                _ => {
                    let target = format!("/v2/a/blobs/uploads/?digest={digest}");
                    self.send(Method::POST, &target, "", bytes.to_vec()).await
                }
            };
            if let Some(response) = pushed {
                assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
                return Some(digest);
            }
            if self.act.is_over() {
                break;
            }
        }
        None
    }

    /// Nothing comes back where a step failed: then the upload is left for the collector.
    async fn push_in_chunks(&mut self, bytes: &[u8], digest: &Digest) -> Option<Response> {
        let started = Instant::now();
        let begun = self
            .send(Method::POST, "/v2/a/blobs/uploads/", "", Vec::new())
            .await?;
        assert_eq!(begun.status(), 202);
        let location = header(&begun, "location").to_owned();
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        let more = self
            .send(Method::PATCH, &location, "", half.to_vec())
            .await?;
        // What takes so long may have been ended as dead, on a machine that is too busy.
        let expiry = EXPIRY * self.grace;
        let more = Some(more).filter(|_| started.elapsed() < expiry)?;
        assert_eq!(more.status(), 202, "{}", more.text().await.unwrap());
        let target = format!("{location}?digest={digest}");
        let put = self.send(Method::PUT, &target, "", rest.to_vec()).await?;
        Some(put).filter(|_| started.elapsed() < expiry)
    }

    /// Pushes a blob that may be there already: then looking at it must do.
    async fn push_shared(&mut self, bytes: &[u8]) -> Option<Digest> {
        let digest = Digest::sha256(bytes);
        let target = format!("/v2/a/blobs/{digest}");
        match self.send(Method::HEAD, &target, "", Vec::new()).await {
            Some(found) if found.status() == 200 => Some(digest),
            _ => self.push_blob(bytes).await,
        }
    }

    /// Pushes an image under a tag of its own, unless the act is over before that is done.
    async fn push_image(&mut self, round: u64) {
        let tag = format!("t{}-{round}", self.number);
        for attempt in 0_u64.. {
            let started = Instant::now();
            let seed = (self.number << 40) | (round << 8) | attempt;
            let Some((digest, manifest, blobs)) = self.push_parts(round, seed).await else {
                break;
            };
            let target = format!("/v2/a/manifests/{tag}");
            let mut put = None;
            while put.is_none() && started.elapsed() < self.grace / 2 {
                put = self
                    .send(Method::PUT, &target, MANIFEST, manifest.clone())
                    .await;
            }
            if let Some(put) = put {
                // What took longer than the grace may lack blobs by now.
                let late = started.elapsed() >= self.grace;
                if !late {
                    assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
                    self.act.pushed.fetch_add(1, Ordering::SeqCst);
                    self.known.images.push(Image {
                        tag,
                        manifest: digest,
                        blobs,
                    });
                    return;
                }
            }
            if self.act.is_over() {
                break;
            }
        }
        self.known.uncertain.push(tag);
    }

    /// Pushes what an image is made of, and returns its manifest.
    async fn push_parts(
        &mut self,
        round: u64,
        seed: u64,
    ) -> Option<(Digest, Vec<u8>, Vec<Digest>)> {
        let config = format!("{{\"seed\":{seed}}}");
        let config = self.push_blob(config.as_bytes()).await?;
        let size = SIZES[usize::try_from(round).unwrap() % SIZES.len()];
        let layer = self.push_blob(&content(size, seed)).await?;
        let shared = (self.number + round) % SHARED;
        let shared = self.push_shared(&content(100_000, shared)).await?;
        let manifest = image(&config, &[&layer, &shared]).to_string().into_bytes();
        let digest = Digest::sha256(&manifest);
        Some((digest, manifest, vec![config, layer, shared]))
    }

    /// Deletes an image of its own by its tag, and the manifest with it.
    async fn delete_image(&mut self) {
        let Some(Image { tag, manifest, .. }) = self.known.images.pop() else {
            return;
        };
        let target = format!("/v2/a/manifests/{manifest}");
        let mut again = false;
        loop {
            let deleted = self.send(Method::DELETE, &target, "", Vec::new()).await;
            let Some(deleted) = deleted else {
                again = true;
                continue;
            };
            // An answer that failed may have been one that was lost.
            let gone = again && deleted.status() == 404;
            assert!(gone || deleted.status() == 202, "{}", deleted.status());
            break;
        }
        self.known.deleted.push(tag);
    }

    /// Reads one of its images, as far as the store lets it.
    async fn read_image(&mut self) {
        let Some(Image {
            tag,
            manifest,
            blobs,
        }) = self.known.images.last()
        else {
            return;
        };
        let (target, blob) = (format!("/v2/a/manifests/{tag}"), blobs[1].clone());
        let manifest = manifest.clone();
        if let Some(found) = self.send(Method::GET, &target, "", Vec::new()).await {
            assert_eq!(found.status(), 200);
            assert_eq!(Digest::sha256(&found.bytes().await.unwrap()), manifest);
        }
        let target = format!("/v2/a/blobs/{blob}");
        if let Some(found) = self.send(Method::GET, &target, "", Vec::new()).await {
            assert_eq!(found.status(), 200);
            assert_eq!(Digest::sha256(&found.bytes().await.unwrap()), blob);
        }
        for target in ["/v2/a/tags/list?n=3", "/v2/_catalog"] {
            if let Some(found) = self.send(Method::GET, target, "", Vec::new()).await {
                // Before anything was pushed there are no tags.
                assert!([200, 404].contains(&found.status().as_u16()));
            }
        }
    }

    async fn work(mut self) -> Known {
        let mut round = 0;
        while !self.act.is_over() {
            self.push_image(round).await;
            self.read_image().await;
            if round % 3 == 2 {
                self.delete_image().await;
            }
            round += 1;
        }
        self.known
    }
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
