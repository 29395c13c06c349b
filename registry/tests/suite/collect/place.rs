//! A store with a time that a test sets, and what is put into it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use deploy_registry::{
    Store, StoreError,
    store::{
        Clock, Collected, Collection, Condition, Counts, Kind, Mode, NewManifest, Others, Pace,
        Progress,
    },
};
use deploy_spec::{Digest, RepositoryName};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    backends::Replicas,
    harness::{body, content, image, name},
};

pub(super) const GRACE: SignedDuration = SignedDuration::from_hours(24);
pub(super) const REPOSITORY: &str = "a/b";

/// A store and the time in it.
pub(super) struct Place {
    pub(super) store: Store,
    pub(super) ahead: Arc<AtomicI64>,
    pub(super) directory: Option<tempfile::TempDir>,
}

impl Place {
    pub(super) fn new(store: Store, directory: Option<tempfile::TempDir>) -> Self {
        Self::at(store, Arc::default(), directory)
    }

    /// With a time that others have too.
    pub(super) fn at(
        store: Store,
        ahead: Arc<AtomicI64>,
        directory: Option<tempfile::TempDir>,
    ) -> Self {
        let shown = ahead.clone();
        let clock = Clock::new(move || {
            Timestamp::now() + SignedDuration::from_secs(shown.load(Ordering::SeqCst))
        });
        Self {
            store: store.with_clock(clock),
            ahead,
            directory,
        }
    }

    pub(super) fn memory() -> Self {
        Self::new(Store::memory(), None)
    }

    /// The first of these stores; nothing where there is none.
    pub(super) fn first(replicas: Option<Replicas>) -> Option<Self> {
        Some(Self::new(replicas?.stores.remove(0), None))
    }

    pub(super) fn directory() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        Self::new(store, Some(directory))
    }

    pub(super) fn pass(&self, time: SignedDuration) {
        self.ahead.fetch_add(time.as_secs(), Ordering::SeqCst);
    }

    pub(super) async fn round(&self) -> Collected {
        self.round_as(Mode::Do).await
    }

    pub(super) async fn round_as(&self, mode: Mode) -> Collected {
        let collection = Collection {
            grace: GRACE,
            upload_expiry: GRACE,
            mode,
            others: Others::Served,
            without_tags: Default::default(),
            pace: Pace::unbounded(),
        };
        let progress = Progress::default();
        self.store.collect(&collection, &progress).await.unwrap();
        progress.so_far()
    }

    /// Does rounds with a grace in between, and returns what went in all.
    pub(super) async fn rounds(&self, rounds: usize) -> Removed {
        let mut removed = Removed::default();
        for _ in 0..rounds {
            self.pass(GRACE + SignedDuration::from_hours(1));
            let collected = self.round().await;
            for kind in Kind::ALL {
                let Counts {
                    removed: count,
                    removed_bytes,
                    ..
                } = *collected.counts(kind);
                removed.add(kind, count, removed_bytes);
            }
        }
        removed
    }

    /// Returns the files of a directory, as they are on the disk.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let Some(directory) = &self.directory else {
            return Vec::new();
        };
        let mut files = Vec::new();
        let mut stack = vec![directory.path().to_owned()];
        while let Some(at) = stack.pop() {
            for entry in std::fs::read_dir(at).unwrap() {
                let entry = entry.unwrap();
                let hidden = entry.file_name().to_string_lossy().starts_with('.');
                match entry.file_type().unwrap().is_dir() {
                    _ if hidden => {}
                    true => stack.push(entry.path()),
                    false => files.push(entry.path()),
                }
            }
        }
        files.sort();
        files
    }
}

/// What went, by kind; only what did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed(Vec<(&'static str, u64, u64)>);

impl Removed {
    pub(super) fn add(&mut self, kind: Kind, count: u64, bytes: u64) {
        if count == 0 {
            return;
        }
        match self.0.iter_mut().find(|(name, ..)| *name == kind.name()) {
            Some((_, counts, sum)) => {
                *counts += count;
                *sum += bytes;
            }
            None => self.0.push((kind.name(), count, bytes)),
        }
        self.0.sort_unstable();
    }

    pub(super) fn count(&self, kind: Kind) -> u64 {
        let found = self.0.iter().find(|(name, ..)| *name == kind.name());
        found.map_or(0, |(_, count, _)| *count)
    }
}

pub(super) async fn put_blob(store: &Store, repository: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    let pieces: Vec<&[u8]> = bytes.chunks(10_000).collect();
    store
        .put_blob(&name(repository), body(&pieces), &digest)
        .await
        .unwrap();
    digest
}

pub(super) async fn put(
    store: &Store,
    repository: &str,
    reference: &str,
    manifest: &Value,
) -> Digest {
    let new = NewManifest {
        reference: &reference.parse().unwrap(),
        tags: &[],
        content_type: None,
        bytes: manifest.to_string().into(),
        condition: Condition::None,
    };
    store
        .put_manifest(&name(repository), new)
        .await
        .unwrap()
        .digest
}

pub(super) fn digest_of(manifest: &Value) -> Digest {
    Digest::sha256(manifest.to_string().as_bytes())
}

pub(super) async fn put_untagged(store: &Store, repository: &str, manifest: &Value) -> Digest {
    put(
        store,
        repository,
        &digest_of(manifest).to_string(),
        manifest,
    )
    .await
}

/// An image of one layer of its own, of this size.
pub(super) async fn image_of(
    store: &Store,
    repository: &str,
    seed: u64,
    size: usize,
) -> (Value, Digest) {
    let config = put_blob(store, repository, b"{}").await;
    let layer = put_blob(store, repository, &content(size, seed)).await;
    (image(&config, &[&layer]), layer)
}

pub(super) async fn has_blob(store: &Store, repository: &RepositoryName, digest: &Digest) -> bool {
    match store.blob(repository, digest).await {
        Ok(_) => true,
        Err(StoreError::BlobUnknown(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

pub(super) async fn has_manifest(
    store: &Store,
    repository: &RepositoryName,
    digest: &Digest,
) -> bool {
    match store.manifest(repository, &digest.clone().into()).await {
        Ok(_) => true,
        Err(StoreError::ManifestUnknown(_)) => false,
        Err(error) => panic!("{error}"),
    }
}
