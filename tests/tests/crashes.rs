//! `kill -9` of a registry at any moment: what it acknowledged is there and whole afterwards.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use deploy_tests::load::{Acknowledged, push_until_gone, verify_listed};
use deploy_tests::minio::Minio;
use deploy_tests::registry::Registry;
use deploy_tests::replicas::Replicas;
use deploy_tests::{peer_or_skip, wait};
use rand::RngExt;

/// How often the registry is killed; a soak does it a hundred times.
fn rounds() -> usize {
    if long() { 100 } else { 5 }
}

fn long() -> bool {
    std::env::var_os("DEPLOY_TESTS_LONG").is_some()
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
