//! The power fails at any moment: what a registry acknowledged is there afterwards, and a host is on one whole release,
//! from which it goes on by itself.

use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deploy_tests::desk::Desk;
use deploy_tests::load::{Acknowledged, push_until_gone, verify_listed};
use deploy_tests::power::Disk;
use deploy_tests::registry::Registry;
use deploy_tests::releases::{CHECK, assert_on_release, assert_only_whole_trees, push_release};
use deploy_tests::{peers, wait};
use rand::RngExt;

const MIB: u64 = 1024 * 1024;

/// How often the power is cut; a soak does it a hundred times.
fn rounds() -> usize {
    match std::env::var_os("DEPLOY_TESTS_LONG") {
        Some(_) => 100,
        None => 6,
    }
}

/// The moment is what is random: nothing is waited for.
fn wait_at_random(longest: Duration) {
    std::thread::sleep(rand::rng().random_range(Duration::ZERO..longest));
}

/// Asserts that all files of the live tree are there and as they were packed.
#[track_caller]
fn assert_live_tree_is_whole(desk: &Desk) {
    desk.run("/bin/sh")
        .args(["-c", "cd host/current/ && sha256sum --quiet -c SUMS"])
        .ok();
}

#[test]
fn disk_keeps_what_was_synced_and_loses_what_was_not() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(mut disk) = Disk::mount(scratch.path().join("disk"), 64 * MIB) else {
        return peers::skip(
            "disk_keeps_what_was_synced_and_loses_what_was_not",
            "the right to mount a file system",
        );
    };
    let (kept, lost) = (disk.path().join("kept"), disk.path().join("lost"));
    std::fs::write(&kept, "kept").unwrap();
    File::open(&kept).unwrap().sync_all().unwrap();
    File::open(disk.path()).unwrap().sync_all().unwrap();
    // The system may write by itself what nobody has synced; not every time.
    wait::until_true("what was not synced is lost", || {
        std::fs::write(&lost, "lost").unwrap();
        disk.cut();
        disk.restore();
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "kept");
        !lost.exists()
    });
}

#[test]
fn host_whose_power_is_cut_is_on_one_whole_release_and_goes_on() {
    let registry = Registry::start_with(&["-maxver", "0"]);
    let desk = Desk::at(registry.address());
    let Some(mut disk) = Disk::mount(desk.path("host"), 128 * MIB) else {
        return peers::skip(
            "host_whose_power_is_cut_is_on_one_whole_release_and_goes_on",
            "the right to mount a file system",
        );
    };
    let script = desk.script("deploy.sh", CHECK);
    push_release(&desk, 0, &[]);
    let begun = Instant::now();
    desk.agent_once("project", "host", &script).ok();
    // From before it begins until after it has ended.
    let longest = begun.elapsed() * 3 / 2;
    let mut seen = [0, 0];
    for round in 1..=rounds() {
        push_release(&desk, round, &[]);
        let mut agent = desk.agent("project", "host", &script, &["-poll", "100ms"]);
        wait_at_random(longest);
        disk.cut();
        agent.kill();
        disk.restore();
        assert_live_tree_is_whole(&desk);
        let live = desk.read("host/current/release");
        let [old, new] = [round - 1, round].map(|number| format!("v{number}"));
        assert!(live == old || live == new, "`{live}` in round {round}");
        seen[usize::from(live == new)] += 1;
        desk.agent_once("project", "host", &script).ok();
        assert_on_release(&desk, &new);
        assert_live_tree_is_whole(&desk);
    }
    assert_only_whole_trees(&desk);
    println!(
        "{} cuts left the old release, {} the new one",
        seen[0], seen[1]
    );
}

#[test]
fn registry_whose_power_is_cut_has_everything_that_it_acknowledged() {
    const PUSHERS: usize = 3;
    let scratch = tempfile::tempdir().unwrap();
    let Some(mut disk) = Disk::mount(scratch.path().join("disk"), 1024 * MIB) else {
        return peers::skip(
            "registry_whose_power_is_cut_has_everything_that_it_acknowledged",
            "the right to mount a file system",
        );
    };
    let store = disk.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let mut registry = Registry::start_on(&store, &["-maxver", "0"]);
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
            wait_at_random(Duration::from_millis(700));
            disk.cut();
            registry.kill();
            stop.store(true, Ordering::Relaxed);
            pushed
        });
        assert!(pushed.is_some(), "the load pushed nothing");
        disk.restore();
        registry.restart();
        let mut fresh = noted.into_inner().unwrap();
        fresh.verify(&registry.address());
        verify_listed(&registry.address(), &format!("r{round}-"));
        all.moving = std::mem::take(&mut fresh.moving);
        all.extend(fresh);
    }
    all.verify(&registry.address());
    verify_listed(&registry.address(), "");
    registry.kill();
}
