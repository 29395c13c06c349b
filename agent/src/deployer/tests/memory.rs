//! A registry in memory, with one channel.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    sync::{
        Mutex as Guarded,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use deploy_spec::{Descriptor, Digest, release::Image, signature::Signature};
use deployctl::archive::{PackOptions, pack};
use tokio::sync::Notify;

use super::*;
use crate::source::{Download, Look, SourceError};

/// Where a transfer stops when half of it is done.
#[derive(Default)]
pub(super) struct Halfway {
    /// Said when it has stopped.
    pub(super) reached: Notify,
    /// To be said for the rest to come.
    pub(super) go: Notify,
    /// Whether the rest does not come at all.
    pub(super) breaks: AtomicBool,
}

/// A registry in memory.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) blobs: Guarded<BTreeMap<Digest, Vec<u8>>>,
    pub(super) channel: Guarded<Option<(Digest, Vec<u8>)>>,
    pub(super) fetched: AtomicUsize,
    pub(super) down: AtomicBool,
    pub(super) signatures: Guarded<Vec<(Digest, Signature)>>,
    /// Where there is one, blobs come only to as many who ask at the same time.
    pub(super) meeting: Option<tokio::sync::Barrier>,
    pub(super) halfway: Option<Halfway>,
}

impl Memory {
    /// Makes a release of layers, each a map of file names and contents, and moves the channel
    /// to it.
    pub(super) fn release(&self, number: u64, layers: &[(&str, &str, &str)]) -> Digest {
        let mut made = Vec::new();
        for (component, name, content) in layers {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(name), content).unwrap();
            let mut bytes = Vec::new();
            let packed = pack(
                &[directory.path().to_owned()],
                &mut bytes,
                &PackOptions::default(),
            )
            .unwrap();
            self.blobs
                .lock()
                .unwrap()
                .insert(packed.digest.clone(), bytes);
            made.push(deploy_spec::ReleaseLayer {
                component: component.parse().unwrap(),
                version: format!("v{number}").parse().unwrap(),
                created: None,
                digest: packed.digest,
                size: packed.size,
                media_type: Compression::Gzip.layer_media_type().to_owned(),
                diff_id: Some(packed.diff_id),
                unpacked_size: Some(packed.unpacked_size),
            });
        }
        let release = Release {
            configuration: "project".parse().unwrap(),
            number: deploy_spec::ReleaseNumber::new(number),
            created: None,
            parent: None,
            channel: None,
            author: None,
            reason: None,
            layers: made,
            image: Image::new("amd64", "linux"),
            annotations: std::collections::BTreeMap::new(),
        };
        let documents = release.to_documents().unwrap();
        self.blobs
            .lock()
            .unwrap()
            .insert(Digest::sha256(&documents.config), documents.config);
        let id = Digest::sha256(&documents.manifest);
        *self.channel.lock().unwrap() = Some((id.clone(), documents.manifest));
        id
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, SourceError> {
        let blobs = self.blobs.lock().unwrap();
        blobs
            .get(digest)
            .cloned()
            .ok_or_else(|| SourceError::new(io::Error::other("no such blob")))
    }
}

impl Source for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    async fn look(&self, known: Option<&Digest>, _wait: Duration) -> Result<Look, SourceError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(SourceError::new(io::Error::other("down")));
        }
        let channel = self.channel.lock().unwrap().clone();
        Ok(match channel {
            None => Look::Missing,
            Some((id, _)) if Some(&id) == known => Look::Unchanged { waited: false },
            Some((id, bytes)) => Look::Manifest { id, bytes },
        })
    }

    async fn document(&self, descriptor: &Descriptor, _limit: u64) -> Result<Vec<u8>, SourceError> {
        self.blob(&descriptor.digest)
    }

    async fn signatures(&self, release: &Digest) -> Result<Vec<Signature>, SourceError> {
        let all = self.signatures.lock().unwrap();
        let of_it = all.iter().filter(|(id, _)| id == release);
        Ok(of_it.map(|(_, signature)| signature.clone()).collect())
    }

    async fn fetch(&self, download: Download<'_>) -> Result<(), SourceError> {
        let Download {
            digest,
            path,
            progress,
            ..
        } = download;
        self.fetched.fetch_add(1, Ordering::Relaxed);
        if let Some(meeting) = &self.meeting {
            meeting.wait().await;
        }
        let blob = self.blob(digest)?;
        let (first, second) = blob.split_at(blob.len() / 2);
        fs::write(path, first).map_err(SourceError::new)?;
        progress.report(first.len() as u64);
        if let Some(halfway) = &self.halfway {
            halfway.reached.notify_one();
            halfway.go.notified().await;
            if halfway.breaks.load(Ordering::Relaxed) {
                return Err(SourceError::new(io::Error::other("broken")));
            }
        }
        let file = OpenOptions::new().append(true).open(path);
        (file.and_then(|mut file| file.write_all(second))).map_err(SourceError::new)
    }
}
