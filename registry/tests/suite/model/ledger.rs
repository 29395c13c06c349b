//! What was promised to whom, and whether it holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use deploy_registry::{Store, StoreError};
use deploy_spec::{Digest, Reference};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{MANIFEST, content, image, name, read, tag};

/// How many blobs there are.
pub(super) const BLOBS: u64 = 6;

/// Content number 0 is larger than what a record holds.
pub(super) fn blob(number: u64) -> Vec<u8> {
    content(if number == 0 { 70_000 } else { 50 }, number + 1)
}

pub(super) fn digest_of(number: u64) -> Digest {
    Digest::sha256(&blob(number))
}

/// The manifest of these blobs; everybody who pushes them pushes the same one.
pub(super) fn manifest_of(blobs: &BTreeSet<u64>, subject: Option<&Digest>) -> Value {
    let digests: Vec<Digest> = blobs.iter().map(|number| digest_of(*number)).collect();
    let (config, layers) = digests.split_first().unwrap();
    let mut manifest = image(config, &layers.iter().collect::<Vec<_>>());
    if let Some(subject) = subject {
        manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
    }
    manifest
}

/// What a pusher was promised.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    pub(super) manifest: Digest,
    /// The manifest that an index names.
    pub(super) child: Option<Digest>,
    /// All that it needs.
    pub(super) blobs: BTreeSet<u64>,
    /// When the push began.
    pub(super) began: Timestamp,
    pub(super) generation: u64,
}

/// What everybody knows.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) promises: BTreeMap<(String, String), Promise>,
    /// Deletions of manifests and blobs: what, and until when they may take effect.
    pub(super) deletions: Vec<(String, Digest, Option<Timestamp>)>,
    /// How many tags each pusher has removed. It does not use their names again: the deletion
    /// of a replica that died may come late.
    pub(super) untagged: BTreeMap<u64, u64>,
    pub(super) generation: u64,
    pub(super) acknowledged: u64,
    pub(super) revisited: u64,
}

impl Ledger {
    /// Returns whether somebody may have deleted on purpose what is promised.
    pub(super) fn is_excused(&self, repository: &str, promise: &Promise) -> bool {
        self.deletions.iter().any(|(place, digest, until)| {
            let concerns = *digest == promise.manifest
                || promise.child.as_ref() == Some(digest)
                || promise.blobs.iter().any(|blob| digest_of(*blob) == *digest);
            concerns && place == repository && until.is_none_or(|until| until >= promise.began)
        })
    }
}

/// Checks that a promise holds, unless it ended while we looked.
pub(super) async fn check(
    store: &Store,
    ledger: &Mutex<Ledger>,
    key: &(String, String),
    promise: &Promise,
) {
    let repository = name(&key.0);
    let kept = async {
        let reference = Reference::Tag(tag(&key.1));
        let manifest = store.manifest(&repository, &reference).await?;
        if manifest.digest != promise.manifest {
            return Ok(false);
        }
        // What an index names must be there too.
        let document: Value = serde_json::from_slice(&manifest.bytes).unwrap();
        for child in document["manifests"].as_array().into_iter().flatten() {
            let digest: Digest = child["digest"].as_str().unwrap().parse().unwrap();
            store.manifest(&repository, &digest.into()).await?;
        }
        for number in &promise.blobs {
            let bytes = read(store, &repository, &digest_of(*number)).await?;
            assert!(bytes == blob(*number));
        }
        Ok::<_, StoreError>(true)
    };
    let kept = kept.await;
    let ledger = ledger.lock().unwrap();
    let still = ledger
        .promises
        .get(key)
        .is_some_and(|now| now.generation == promise.generation);
    if still && !ledger.is_excused(&key.0, promise) {
        assert!(matches!(kept, Ok(true)), "{key:?}: {kept:?} {promise:?}");
    }
}
