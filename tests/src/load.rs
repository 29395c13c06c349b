//! A load on a registry that notes what was acknowledged, and looks for it afterwards. Called by the scenarios.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use rand::RngExt;

use crate::{http, oci};

/// What the registry has answered 201 to.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Blobs, by repository and digest, with their size.
    pub blobs: Vec<(String, String, usize)>,
    /// Manifests, by repository and digest.
    pub manifests: Vec<(String, String)>,
    /// Tags that are only ever set once.
    pub tags: Vec<(String, String, String)>,
    /// What a moving tag was last known to stand for, and what it was on its way to, by repository.
    pub moving: BTreeMap<String, (String, Option<String>)>,
}

/// Pushes in every style until the registry is gone or `stop` is set, noting what it acknowledged.
pub fn push_until_gone(
    address: &str,
    pusher: usize,
    round: usize,
    stop: &AtomicBool,
    noted: &Mutex<Acknowledged>,
) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) || push_one(address, pusher, round, number, noted).is_err()
        {
            return;
        }
    }
}

fn push_one(
    address: &str,
    pusher: usize,
    round: usize,
    number: usize,
    noted: &Mutex<Acknowledged>,
) -> Result<()> {
    let repository = format!("load/pusher{pusher}");
    let mut random = rand::rng();
    // From a handful of bytes, which may be stored beside their record, to several buffers full.
    let mut bytes = vec![0; [40, 5_000, 70_000, 700_000][number % 4]];
    random.fill(&mut bytes[..]);
    let digest = oci::digest(&bytes);
    let note = |change: &dyn Fn(&mut Acknowledged)| {
        change(&mut noted.lock().expect("nobody panics while it is held"))
    };

    oci::push_blob(address, &repository, b"{}")?;
    match number % 3 {
        0 => {
            oci::push_blob(address, &repository, &bytes)?;
        }
        1 => {
            let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
            ensure!(
                http::request(address, "POST", &target, &[], &bytes)?.status == 201,
                "pushed at once"
            );
        }
        _ => {
            let mut location = oci::open_upload(address, &repository)?;
            let (first, second) = bytes.split_at(bytes.len() / 2);
            for (start, part) in [(0, first), (first.len(), second)] {
                let range = format!("{start}-{}", start + part.len() - 1);
                let reply = http::request(
                    address,
                    "PATCH",
                    &location,
                    &[("Content-Range", &range)],
                    part,
                )?;
                ensure!(reply.status == 202, "a chunk is answered {}", reply.status);
                location = reply
                    .header("location")
                    .context("a chunk has a location")?
                    .to_owned();
            }
            let reply = http::request(
                address,
                "PUT",
                &oci::with_digest(&location, &digest),
                &[],
                b"",
            )?;
            ensure!(
                reply.status == 201,
                "a chunked upload is closed with {}",
                reply.status
            );
        }
    }
    note(&|it| {
        it.blobs
            .push((repository.clone(), digest.clone(), bytes.len()))
    });

    let manifest = oci::artifact(&bytes, &format!("{round}-{number}"));
    let tag = format!("r{round}-n{number}");
    let pushed = oci::push_manifest(address, &repository, &tag, &manifest)?;
    note(&|it| {
        it.manifests.push((repository.clone(), pushed.clone()));
        it.tags
            .push((repository.clone(), tag.clone(), pushed.clone()));
    });
    note(&|it| it.moving.entry(repository.clone()).or_default().1 = Some(pushed.clone()));
    oci::push_manifest(address, &repository, "latest", &manifest)?;
    note(&|it| {
        it.moving.insert(repository.clone(), (pushed.clone(), None));
    });
    Ok(())
}

impl Acknowledged {
    /// Asserts that all of it is there, byte for byte, and settles what the moving tags stand for.
    ///
    /// # Panics
    /// When something is not, or the registry does not answer.
    pub fn verify(&mut self, address: &str) {
        for (repository, digest, size) in &self.blobs {
            let blob = oci::blob(address, repository, digest).expect("the registry answers");
            assert_eq!(
                blob.map(|bytes| bytes.len()),
                Some(*size),
                "blob `{digest}` was acknowledged"
            );
        }
        for (repository, digest) in &self.manifests {
            let manifest =
                oci::manifest(address, repository, digest).expect("the registry answers");
            assert!(manifest.is_some(), "manifest `{digest}` was acknowledged");
        }
        for (repository, tag, digest) in &self.tags {
            let manifest = oci::manifest(address, repository, tag).expect("the registry answers");
            assert_eq!(
                manifest.map(|it| it.digest).as_ref(),
                Some(digest),
                "tag `{tag}` was acknowledged"
            );
        }
        for (repository, (last, next)) in &mut self.moving {
            let now = oci::manifest(address, repository, "latest").expect("the registry answers");
            let now = now.map(|it| it.digest).unwrap_or_default();
            assert!(
                now == *last || Some(&now) == next.as_ref(),
                "`latest` is `{now}`, not `{last}` or {next:?}"
            );
            (*last, *next) = (now, None);
        }
    }

    /// Takes over what moving tags stood for, as far as nobody has moved them since.
    pub fn keep_moving(&mut self, moving: BTreeMap<String, (String, Option<String>)>) {
        for (repository, (last, next)) in moving {
            let entry = self.moving.entry(repository).or_default();
            if entry.0.is_empty() {
                entry.0 = last;
                entry.1 = entry.1.take().or(next);
            }
        }
    }

    /// Adds what one round pushed.
    pub fn extend(&mut self, round: Self) {
        self.blobs.extend(round.blobs);
        self.manifests.extend(round.manifests);
        self.tags.extend(round.tags);
    }
}

/// Asserts that whatever tag is listed, acknowledged or not, stands for something whole. Only tags that begin with
/// `start` are looked at.
///
/// # Panics
/// When it does not, or the registry does not answer.
pub fn verify_listed(address: &str, start: &str) {
    for repository in oci::repositories(address).expect("the registry answers") {
        for tag in oci::tags(address, &repository)
            .expect("the registry answers")
            .iter()
            .filter(|tag| tag.starts_with(start))
        {
            let manifest = oci::manifest(address, &repository, tag).expect("the registry answers");
            let manifest =
                manifest.unwrap_or_else(|| panic!("`{repository}:{tag}` is listed and not there"));
            for blob in manifest.blobs() {
                let found = oci::blob(address, &repository, &blob).expect("the registry answers");
                assert!(found.is_some(), "`{repository}:{tag}` lacks `{blob}`");
            }
        }
    }
}
