//! A client that pushes, reads and deletes images while the store fails, and notes what it was
//! told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use deploy_spec::Digest;
use reqwest::{Client, Method, Response};
use serde_json::Value;

use super::{EXPIRY, Failing};
use crate::harness::{MANIFEST, content, header, image};

/// How much longer a busy machine may take for everything to happen once.
const PATIENCE: Duration = Duration::from_secs(120);
/// Sizes of blobs: in the record, in one piece, in several parts, in parts from the first chunk on.
const SIZES: [usize; 5] = [300, 40_000, 200_000, 6 * MIB, 11 * MIB];
const MIB: usize = 1024 * 1024;
/// Layers that several images have, one after the other pushed, needed, unneeded.
const SHARED: u64 = 3;

/// An image whose push was acknowledged to its end.
pub(super) struct Image {
    pub(super) tag: String,
    pub(super) manifest: Digest,
    pub(super) blobs: Vec<Digest>,
}

/// What the clients have come to know.
#[derive(Default)]
pub(super) struct Known {
    pub(super) images: Vec<Image>,
    /// Tags whose deletion was acknowledged.
    pub(super) deleted: Vec<String>,
    /// Tags that may be there: nobody said whether their push was done.
    pub(super) uncertain: Vec<String>,
}

/// What lasts until everything has happened that should, and for a while.
pub(super) struct Act {
    pub(super) until: Instant,
    pub(super) faults: Arc<dyn Failing>,
    /// Requests that were told that the server failed.
    pub(super) failed: AtomicU64,
    pub(super) pushed: AtomicU64,
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
pub(super) struct Pusher {
    pub(super) client: Client,
    pub(super) act: Arc<Act>,
    /// Longer than this, no push may take.
    pub(super) grace: Duration,
    pub(super) urls: Vec<String>,
    pub(super) number: u64,
    pub(super) turn: usize,
    pub(super) known: Known,
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

    pub(super) async fn work(mut self) -> Known {
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
