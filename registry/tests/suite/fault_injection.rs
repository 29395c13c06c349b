//! Two replicas and a collector over a store that fails now and then, under a mixed load: what
//! was acknowledged is there in the end, what went wrong was said in the proper form, and
//! nothing stays that nobody needs.

use std::{
    collections::{BTreeMap, BTreeSet},
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
use object_store::{ObjectStore as _, path::Path};
use reqwest::{Client, Method, Response};
use serde_json::Value;

use crate::{
    flaky::Flaky,
    harness::{MANIFEST, TestRegistry, content, header, image},
};

const CLIENTS: u64 = 6;
/// Longer than any push takes, and short enough that what the clients leave is collected while
/// they go on.
const GRACE: Duration = Duration::from_secs(5);
/// A push that took longer begins anew.
const PATIENCE: Duration = Duration::from_secs(3);
/// Sizes of blobs: in the record, in one piece, in several parts.
const SIZES: [usize; 4] = [300, 40_000, 200_000, 6 * 1024 * 1024];

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
    /// How many answers there were, by status.
    statuses: BTreeMap<u16, u64>,
}

/// A client that speaks to either replica, request by request.
struct Pusher {
    client: Client,
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
            // The first piece was there, and the next was not: an answer that has begun can only
            // break off, and a client may not have seen its beginning.
            Err(_) if method == Method::GET && target.contains("/blobs/") => return None,
            Err(error) => panic!("{target}: {error:?}"),
        };
        let status = response.status();
        *self.known.statuses.entry(status.as_u16()).or_default() += 1;
        if !status.is_server_error() && status.as_u16() != 429 {
            return Some(response);
        }
        if method != Method::HEAD {
            let body: Value = response.json().await.unwrap();
            assert!(body["errors"][0]["code"].is_string(), "{target}: {body}");
            assert!(body["errors"][0]["message"].is_string(), "{target}: {body}");
        }
        None
    }

    /// Pushes a blob until that is acknowledged.
    async fn push_blob(&mut self, bytes: &[u8]) -> Digest {
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
                break;
            }
        }
        digest
    }

    /// Nothing comes back where a step failed: then the upload is left for the collector.
    async fn push_in_chunks(&mut self, bytes: &[u8], digest: &Digest) -> Option<Response> {
        let begun = self
            .send(Method::POST, "/v2/a/blobs/uploads/", "", Vec::new())
            .await?;
        assert_eq!(begun.status(), 202);
        let location = header(&begun, "location").to_owned();
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        let more = self
            .send(Method::PATCH, &location, "", half.to_vec())
            .await?;
        assert_eq!(more.status(), 202, "{}", more.text().await.unwrap());
        let target = format!("{location}?digest={digest}");
        self.send(Method::PUT, &target, "", rest.to_vec()).await
    }

    /// Pushes an image under a tag of its own.
    async fn push_image(&mut self, round: u64) {
        let tag = format!("t{}-{round}", self.number);
        for attempt in 0_u64.. {
            let started = Instant::now();
            let seed = (self.number << 40) | (round << 8) | attempt;
            let config = self
                .push_blob(format!("{{\"seed\":{seed}}}").as_bytes())
                .await;
            let size = SIZES[usize::try_from(round).unwrap() % SIZES.len()];
            let layer = self.push_blob(&content(size, seed)).await;
            let manifest = image(&config, &[&layer]).to_string().into_bytes();
            let digest = Digest::sha256(&manifest);
            let target = format!("/v2/a/manifests/{tag}");
            let mut put = None;
            while put.is_none() && started.elapsed() < PATIENCE {
                put = self
                    .send(Method::PUT, &target, MANIFEST, manifest.clone())
                    .await;
            }
            let Some(put) = put else {
                continue;
            };
            assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
            self.known.images.push(Image {
                tag,
                manifest: digest,
                blobs: vec![config, layer],
            });
            return;
        }
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
            // What breaks off while it is sent can only break the connection.
            if let Ok(bytes) = found.bytes().await {
                assert_eq!(Digest::sha256(&bytes), blob);
            }
        }
        for target in ["/v2/a/tags/list?n=3", "/v2/_catalog"] {
            if let Some(found) = self.send(Method::GET, target, "", Vec::new()).await {
                // Before anything was pushed there are no tags.
                assert!([200, 404].contains(&found.status().as_u16()));
            }
        }
    }

    async fn work(mut self, until: Instant) -> Known {
        let mut round = 0;
        while Instant::now() < until {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_acknowledged_is_lost_and_nothing_useless_stays_when_the_store_fails() {
    let time = match std::env::var_os("DEPLOY_TESTS_LONG") {
        Some(_) => Duration::from_secs(120),
        None => Duration::from_secs(12),
    };
    let flaky = Flaky::new(0x5eed);
    let mut settings = ServerSettings::default();
    settings.upkeep.gc_interval = Some(Duration::from_secs(1));
    settings.upkeep.interval = Duration::from_secs(1);
    settings.upkeep.gc_grace = GRACE;
    settings.upkeep.gc_rate = 0;
    settings.upkeep.upload_expiry = GRACE;
    let replicas = [
        TestRegistry::with(Store::multipart(flaky.clone()), settings.clone()).await,
        TestRegistry::with(Store::multipart(flaky.clone()), settings).await,
    ];
    let urls: Vec<String> = replicas.iter().map(|replica| replica.url.clone()).collect();
    let client = Client::builder().no_proxy().build().unwrap();
    flaky.set_percent(5);
    let until = Instant::now() + time;
    let pushers: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let pusher = Pusher {
                client: client.clone(),
                urls: urls.clone(),
                number,
                turn: usize::try_from(number).unwrap(),
                known: Known::default(),
            };
            tokio::spawn(pusher.work(until))
        })
        .collect();
    let mut known = Vec::new();
    for pusher in pushers {
        known.push(pusher.await.unwrap());
    }
    flaky.set_percent(0);
    assert!(
        flaky.struck().iter().all(|count| *count > 0),
        "{:?}",
        flaky.struck()
    );
    let mut needed = BTreeSet::new();
    let mut images = 0;
    for Known {
        images: pushed,
        deleted,
        ..
    } in &known
    {
        for image in pushed {
            check(&client, &urls[images % 2], image).await;
            needed.extend(image.blobs.iter().map(Digest::to_string));
            images += 1;
        }
        for tag in deleted {
            let gone = client
                .get(format!("{}/v2/a/manifests/{tag}", urls[0]))
                .send();
            assert_eq!(gone.await.unwrap().status(), 404, "{tag}");
        }
    }
    assert!(images > 0);
    let failed: u64 = known
        .iter()
        .flat_map(|known| known.statuses.range(500..))
        .map(|(_, count)| count)
        .sum();
    assert!(failed > 0, "nobody noticed");
    for replica in replicas {
        replica.stop().await.unwrap();
    }
    collect_everything(&flaky).await;
    assert_no_litter(&flaky, &needed, images).await;
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
async fn collect_everything(flaky: &Flaky) {
    let later = || Timestamp::now() + SignedDuration::from_mins(30);
    let store = Store::multipart(flaky.clone()).with_clock(Clock::new(later));
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
async fn assert_no_litter(flaky: &Flaky, needed: &BTreeSet<String>, images: usize) {
    let objects: Vec<_> = flaky.content().list(None).try_collect().await.unwrap();
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
        use object_store::ObjectStoreExt as _;
        let record = flaky.content().get(&Path::from(key)).await.unwrap();
        let record = record.bytes().await.unwrap();
        let line = record.split(|byte| *byte == b'\n').next().unwrap();
        let header: Value = serde_json::from_slice(line).unwrap();
        if let Some(data) = header["data"].as_str() {
            named.insert(format!("data/{}/{}", &data[..2], &data[2..]));
        }
    }
    let data: BTreeSet<String> = below("data/").into_iter().map(str::to_owned).collect();
    assert_eq!(data, named);
    assert_eq!(flaky.open_multipart_uploads(), 0);
}
