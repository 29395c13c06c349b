//! Whole deployments on a real directory, from a source in memory, with crashes between and
//! around all steps.

mod following;
mod host;
mod memory;
mod overlapped;
mod plan;
mod prune;
mod room;
mod signed;
mod undo;
mod verify;

use std::{fs, sync::atomic::Ordering};

use deploy_spec::Digest;

use self::{
    following::until,
    host::{Host, at_each_death},
};
use super::*;
use crate::machine::{Exit, OnFailure};

#[tokio::test]
async fn releases_are_deployed_once_each() {
    let host = Host::new();
    let first = host.release(1);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&first);
    assert_eq!(host.look().await, Exit::Success);
    let second = host.release(2);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&second);
    assert_eq!(
        host.runs(),
        [format!("none {first}"), format!("{first} {second}")]
    );
    // Two layers at first, and only the changed one after.
    assert_eq!(host.source.fetched.load(Ordering::Relaxed), 3);
    assert!(host.has_tree(&first));
    assert_eq!(
        fs::read_dir(host.path("host/cache/sha256"))
            .unwrap()
            .count(),
        2
    );
}

#[tokio::test]
async fn layers_come_at_the_same_time_and_each_blob_once() {
    let mut host = Host::new();
    // Nobody gets a blob before both have been asked for.
    Arc::get_mut(&mut host.source).unwrap().meeting = Some(tokio::sync::Barrier::new(2));
    let layers = [
        ("one", "a", "the same"),
        ("two", "b", "another"),
        ("three", "a", "the same"),
    ];
    let release = host.release_of(1, &layers);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&release);
    assert_eq!(host.source.fetched.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn dying_around_any_step_ends_on_the_newest_release_all_the_same() {
    for keep in [None, Some(0)] {
        let step = at_each_death(async |death| {
            let mut host = Host::new();
            host.keep = keep;
            let first = host.release(1);
            assert_eq!(host.look().await, Exit::Success);
            let second = host.release(2);
            let (_, works) = host.once(Some(death)).await;
            assert_eq!(host.look().await, Exit::Success, "{death:?}");
            host.assert_on(&second);
            let runs = host.whole_runs(death);
            assert_eq!(
                runs[1..],
                [format!("{first} {second}")],
                "{death:?}: {runs:?}"
            );
            assert_eq!(host.has_tree(&first), keep.is_none(), "{death:?}");
            works
        })
        .await;
        assert_eq!(
            step, 9,
            "recover, fetch, stage, prepare, script, switch, check, save, clean"
        );
    }
}

#[tokio::test]
async fn a_failing_script_leaves_the_old_release_and_going_back_repairs_it() {
    let host = Host::new();
    let first = host.release(1);
    host.look().await;
    let back = host.source.channel.lock().unwrap().clone();
    let second = host.release(2);
    fs::write(host.path("fail"), "").unwrap();
    assert_eq!(host.look().await, Exit::Failure);
    assert_eq!(host.state().id, first);
    assert_eq!(host.directory_current(), first);
    fs::remove_file(host.path("fail")).unwrap();
    *host.source.channel.lock().unwrap() = back;
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&first);
    assert_eq!(
        host.runs(),
        [
            format!("none {first}"),
            format!("{first} {second}"),
            format!("{second} {first}")
        ]
    );
}

#[tokio::test]
async fn a_damaged_layer_in_the_cache_is_fetched_again() {
    let host = Host::new();
    host.release(1);
    host.look().await;
    for entry in fs::read_dir(host.path("host/cache/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    // One layer is the same: it is found in the cache, and found to be wrong.
    let second = host.release(2);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&second);
    assert_eq!(host.source.fetched.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_state_file_that_cannot_be_read_is_kept_and_recovered() {
    for journal in [true, false] {
        let host = Host::new();
        let first = host.release(1);
        host.look().await;
        fs::write(host.path("host/state.json"), "{ no json").unwrap();
        if !journal {
            fs::write(host.path("host/journal.json"), "no json either").unwrap();
        }
        assert_eq!(host.look().await, Exit::Success);
        // Recovered: the script is not run again.
        assert_eq!(host.runs().len(), 1);
        assert_eq!(host.state().id, first);
        let kept = fs::read_dir(host.path("host"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let kept = kept.filter(|path| path.to_string_lossy().contains("state.json.corrupt-"));
        assert_eq!(
            kept.map(|path| fs::read_to_string(path).unwrap())
                .collect::<Vec<_>>(),
            ["{ no json"]
        );
        let second = host.release(2);
        assert_eq!(host.look().await, Exit::Success);
        host.assert_on(&second);
        assert_eq!(host.runs()[1], format!("{first} {second}"));
    }
}

#[tokio::test]
async fn a_tree_that_somebody_removed_is_deployed_again() {
    let host = Host::new();
    let first = host.release(1);
    host.look().await;
    fs::remove_dir_all(host.path("host/unpacked").join(first.file_name())).unwrap();
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&first);
    assert_eq!(host.runs().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_deployed_changes_nothing() {
    let host = Host::new();
    assert_eq!(host.look().await, Exit::Failure, "no such channel");
    let first = host.release(1);
    host.look().await;
    host.source.down.store(true, Ordering::Relaxed);
    assert_eq!(host.look().await, Exit::Failure, "no registry");
    host.source.down.store(false, Ordering::Relaxed);
    for manifest in [
        &b"{}"[..],
        b"<html>",
        br#"{"schemaVersion":2,"manifests":[]}"#,
    ] {
        *host.source.channel.lock().unwrap() = Some((Digest::sha256(manifest), manifest.to_vec()));
        assert_eq!(host.look().await, Exit::Failure);
    }
    host.release(2);
    host.source
        .blobs
        .lock()
        .unwrap()
        .retain(|_, bytes| bytes.first() == Some(&b'{'));
    fs::remove_dir_all(host.path("host/cache")).unwrap();
    assert_eq!(host.look().await, Exit::Failure, "no layers");
    assert_eq!(host.directory_current(), first);
    assert_eq!(host.runs().len(), 1);
}

#[tokio::test]
async fn following_retries_a_failing_script_with_pauses_and_takes_the_next_release() {
    let host = Host::new();
    host.release(1);
    host.look().await;
    host.release(2);
    fs::write(host.path("fail"), "").unwrap();
    let agent = host.follow(OnFailure::Retry);
    until("two tries", || host.runs().len() == 3).await;
    // Half of the shortest pause is the least that the draw can give. The script's own times: this
    // test may be late to see a run.
    let times = host.times();
    assert!(times[2] - times[1] >= 500, "{times:?}");
    fs::remove_file(host.path("fail")).unwrap();
    let third = host.release(3);
    until("the third release", || {
        host.directory_current() == third && host.entry().step == JournalStep::Idle
    })
    .await;
    assert_eq!(agent.end().await, Exit::Success);
    host.assert_on(&third);
}
