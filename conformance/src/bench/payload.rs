//! Content that nobody has seen before, and its digests, without hashing it each time. For
//! `work` and `prepare`.
//!
//! All payloads of one length share their first bytes, random ones, and differ in their last 64.
//! So the hash over the shared part is computed once, and a digest costs two blocks more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::content;

/// The bytes that differ.
const TAIL: usize = 64;

/// Where payloads come from; one for a whole run.
pub(crate) struct Source {
    shared: Arc<[u8]>,
    nonce: [u8; 16],
    next: AtomicU64,
    midstates: Mutex<HashMap<usize, Sha256>>,
}

/// Something to push: the start of the shared bytes, and then bytes of its own.
#[derive(Clone)]
pub(crate) struct Payload {
    shared: Arc<[u8]>,
    length: usize,
    own: Arc<[u8]>,
    pub(crate) digest: String,
}

impl Payload {
    /// Bytes in all.
    pub(crate) fn len(&self) -> usize {
        self.length + self.own.len()
    }

    /// The content, in two pieces.
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        [&self.shared[..self.length], &self.own]
    }
}

/// An image to push: what it refers to, and the manifest.
pub(crate) struct Image {
    pub(crate) blobs: Vec<Payload>,
    pub(crate) manifest: Payload,
}

impl Source {
    /// A source of payloads up to `longest` bytes.
    pub(crate) fn new(longest: usize) -> Self {
        let mut shared = vec![0; longest];
        let mut random = rand::rng();
        random.fill(shared.as_mut_slice());
        Self {
            shared: shared.into(),
            nonce: random.random(),
            next: AtomicU64::new(0),
            midstates: Mutex::default(),
        }
    }

    /// A payload of `length` bytes.
    pub(crate) fn payload(&self, length: usize) -> Payload {
        let shared = length.saturating_sub(TAIL);
        let mut tail = [0; TAIL];
        tail[..16].copy_from_slice(&self.nonce);
        tail[16..24].copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        self.with_own(shared, &tail[..length - shared])
    }

    /// A payload of just these bytes.
    pub(crate) fn exactly(&self, bytes: &[u8]) -> Payload {
        self.with_own(0, bytes)
    }

    /// An image of these layers, with a config of its own.
    pub(crate) fn image(&self, layers: Vec<Payload>) -> Image {
        self.image_about(layers, None)
    }

    /// As `image`, referring to a subject (its digest and size).
    pub(crate) fn image_about(
        &self,
        layers: Vec<Payload>,
        subject: Option<(&str, usize)>,
    ) -> Image {
        let serial = self.next.fetch_add(1, Ordering::Relaxed);
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "author": format!("bench {} {serial}", hex::encode(self.nonce)),
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.exactly(config.to_string().as_bytes());
        let descriptor = |media_type: &str, payload: &Payload| json!({"mediaType": media_type, "digest": payload.digest, "size": payload.len()});
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": content::IMAGE,
            "config": descriptor(content::IMAGE_CONFIG, &config),
            "layers": layers
                .iter()
                .map(|layer| descriptor(content::LAYER, layer))
                .collect::<Vec<_>>(),
        });
        if let Some((digest, size)) = subject {
            manifest["subject"] =
                json!({"mediaType": content::IMAGE, "digest": digest, "size": size});
        }
        let manifest = self.exactly(manifest.to_string().as_bytes());
        let mut blobs = layers;
        blobs.push(config);
        Image { blobs, manifest }
    }

    fn with_own(&self, length: usize, own: &[u8]) -> Payload {
        let mut hasher = self.midstate(length);
        hasher.update(own);
        Payload {
            shared: Arc::clone(&self.shared),
            length,
            own: own.into(),
            digest: format!("sha256:{}", hex::encode(hasher.finalize())),
        }
    }

    /// The hash over the first `length` shared bytes, computed once.
    fn midstate(&self, length: usize) -> Sha256 {
        let mut midstates = self
            .midstates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        midstates
            .entry(length)
            .or_insert_with(|| Sha256::new_with_prefix(&self.shared[..length]))
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256;

    #[test]
    fn digests_are_those_of_the_content_and_differ() {
        let source = Source::new(5000);
        for length in [1, 64, 65, 4096, 5000] {
            let (one, other) = (source.payload(length), source.payload(length));
            assert_eq!(one.len(), length);
            assert_eq!(one.digest, sha256(&one.parts().concat()));
            assert!(length < TAIL || one.digest != other.digest, "{length}");
        }
    }

    #[test]
    fn an_image_names_what_it_holds() {
        let source = Source::new(100);
        let image = source.image(vec![source.payload(100)]);
        let manifest: serde_json::Value =
            serde_json::from_slice(image.manifest.parts()[1]).expect("JSON");
        assert_eq!(image.blobs.len(), 2);
        assert_eq!(manifest["layers"][0]["digest"], image.blobs[0].digest);
        assert_eq!(manifest["config"]["digest"], image.blobs[1].digest);
    }
}
