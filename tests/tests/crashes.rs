//! `kill -9` of a registry at any moment: what it acknowledged is there and whole afterwards.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use deploy_tests::minio::Minio;
use deploy_tests::registry::Registry;
use deploy_tests::replicas::Replicas;
use deploy_tests::{http, oci, peer_or_skip, wait};
use rand::RngExt;

/// How often the registry is killed; a soak does it a hundred times.
fn rounds() -> usize {
    if long() { 100 } else { 5 }
}

fn long() -> bool {
    std::env::var_os("DEPLOY_TESTS_LONG").is_some()
}

/// What the registry has answered 201 to.
#[derive(Default)]
struct Acknowledged {
    /// Blobs, by repository and digest, with their size.
    blobs: Vec<(String, String, usize)>,
    /// Manifests, by repository and digest.
    manifests: Vec<(String, String)>,
    /// Tags that are only ever set once.
    tags: Vec<(String, String, String)>,
    /// What a moving tag was last known to stand for, and what it was on its way to, by repository.
    moving: BTreeMap<String, (String, Option<String>)>,
}

/// Pushes in every style until the registry is gone or `stop` is set, noting what it acknowledged.
fn push_until_gone(
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
    let note = |change: &dyn Fn(&mut Acknowledged)| change(&mut noted.lock().unwrap());

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
    fn verify(&mut self, address: &str) {
        for (repository, digest, size) in &self.blobs {
            let blob = oci::blob(address, repository, digest).unwrap();
            assert_eq!(
                blob.map(|bytes| bytes.len()),
                Some(*size),
                "blob `{digest}` was acknowledged"
            );
        }
        for (repository, digest) in &self.manifests {
            let manifest = oci::manifest(address, repository, digest).unwrap();
            assert!(manifest.is_some(), "manifest `{digest}` was acknowledged");
        }
        for (repository, tag, digest) in &self.tags {
            let manifest = oci::manifest(address, repository, tag).unwrap();
            assert_eq!(
                manifest.map(|it| it.digest).as_ref(),
                Some(digest),
                "tag `{tag}` was acknowledged"
            );
        }
        for (repository, (last, next)) in &mut self.moving {
            let now = oci::manifest(address, repository, "latest").unwrap();
            let now = now.map(|it| it.digest).unwrap_or_default();
            assert!(
                now == *last || Some(&now) == next.as_ref(),
                "`latest` is `{now}`, not `{last}` or {next:?}"
            );
            (*last, *next) = (now, None);
        }
    }

    /// Takes over what moving tags stood for, as far as nobody has moved them since.
    fn keep_moving(&mut self, moving: BTreeMap<String, (String, Option<String>)>) {
        for (repository, (last, next)) in moving {
            let entry = self.moving.entry(repository).or_default();
            if entry.0.is_empty() {
                entry.0 = last;
                entry.1 = entry.1.take().or(next);
            }
        }
    }

    /// Adds what one round pushed.
    fn extend(&mut self, round: Self) {
        self.blobs.extend(round.blobs);
        self.manifests.extend(round.manifests);
        self.tags.extend(round.tags);
    }
}

/// Asserts that whatever tag is listed, acknowledged or not, stands for something whole. Only tags that begin with
/// `start` are looked at.
fn verify_listed(address: &str, start: &str) {
    for repository in oci::repositories(address).unwrap() {
        for tag in oci::tags(address, &repository)
            .unwrap()
            .iter()
            .filter(|tag| tag.starts_with(start))
        {
            let manifest = oci::manifest(address, &repository, tag).unwrap();
            let manifest =
                manifest.unwrap_or_else(|| panic!("`{repository}:{tag}` is listed and not there"));
            for blob in manifest.blobs() {
                let found = oci::blob(address, &repository, &blob).unwrap();
                assert!(found.is_some(), "`{repository}:{tag}` lacks `{blob}`");
            }
        }
    }
}

#[test]
fn killed_registry_keeps_every_push_that_it_acknowledged() {
    const PUSHERS: usize = 3;
    let mut registry = Registry::start_with(&["-maxver", "0"]);
    let mut all = Acknowledged::default();
    for round in 0..rounds() {
        let address = registry.address();
        let fresh = Acknowledged {
            moving: std::mem::take(&mut all.moving),
            ..Acknowledged::default()
        };
        let (stop, noted) = (AtomicBool::new(false), Mutex::new(fresh));
        let pushed = std::thread::scope(|scope| {
            for pusher in 0..PUSHERS {
                let (address, stop, noted) = (&address, &stop, &noted);
                scope.spawn(move || push_until_gone(address, pusher, round, stop, noted));
            }
            let pushed = wait::until(wait::PATIENCE, || {
                (!noted.lock().unwrap().blobs.is_empty()).then_some(())
            });
            // The moment is what is random here: nothing more is waited for.
            std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..700)));
            registry.kill();
            stop.store(true, Ordering::Relaxed);
            pushed
        });
        assert!(pushed.is_some(), "the load pushed nothing");
        let mut fresh = noted.into_inner().unwrap();
        registry.restart();
        fresh.verify(&registry.address());
        verify_listed(&registry.address(), &format!("r{round}-"));
        all.moving = std::mem::take(&mut fresh.moving);
        all.extend(fresh);
    }
    all.verify(&registry.address());
    verify_listed(&registry.address(), "");
}

/// Ends the load even where the test fails, or that would never be said.
struct StopsWhenDropped<'a>(&'a AtomicBool);

impl Drop for StopsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn killed_replica_takes_nothing_with_it_while_another_serves_on() {
    const PUSHERS: usize = 4;
    const REPLICAS: usize = 2;
    let test = "killed_replica_takes_nothing_with_it_while_another_serves_on";
    let minio = Minio::start(&peer_or_skip!(test, Minio::PROGRAM));
    let mut replicas = Replicas::start(&minio, "crashes", REPLICAS, &["-maxver", "0"]);
    let address = replicas.address();
    let (stop, noted) = (AtomicBool::new(false), Mutex::new(Acknowledged::default()));
    // Who was refused goes on in a repository of its own: what became of the last push there is not known.
    let repositories = AtomicUsize::new(0);
    let mut all = Acknowledged::default();
    std::thread::scope(|scope| {
        let _stop = StopsWhenDropped(&stop);
        for _ in 0..PUSHERS {
            let (address, stop, noted, repositories) = (&address, &stop, &noted, &repositories);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let pusher = repositories.fetch_add(1, Ordering::Relaxed);
                    push_until_gone(address, pusher, 0, stop, noted);
                }
            });
        }
        for round in 0..rounds() {
            let (victim, survivor) = (round % REPLICAS, (round + 1) % REPLICAS);
            wait::until_true("the load has pushed something", || {
                !noted.lock().unwrap().blobs.is_empty()
            });
            // The moment is what is random here: nothing more is waited for.
            std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..1500)));
            replicas.kill(victim);
            let mut fresh = std::mem::take(&mut *noted.lock().unwrap());
            // What goes on moving is looked at in the end.
            let moving = std::mem::take(&mut fresh.moving);
            noted.lock().unwrap().keep_moving(moving);
            fresh.verify(&replicas.replica(survivor));
            all.extend(fresh);
            replicas.restart(victim);
        }
    });
    let fresh = noted.into_inner().unwrap();
    all.moving = fresh.moving.clone();
    all.extend(fresh);
    for index in 0..REPLICAS {
        all.verify(&replicas.replica(index));
    }
    verify_listed(&address, "r0-");
}
