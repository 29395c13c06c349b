//! Releases that a script refuses, on a real directory: what the host is after them, and what the journal
//! remembers.

use std::{fs, sync::atomic::Ordering, time::Duration};

use super::{
    following::until,
    host::{Host, LONG, at_each_death},
    *,
};
use crate::{
    machine::{Exit, OnFailure},
    runner::Signal,
};

/// For how long a check may fail that is to fail. What it says then is worth waiting for in one test only.
const SHORT: Duration = Duration::from_millis(150);

/// Fails for releases that say so, after writing down what it was asked.
const CHECK: &str = "echo \"${OLDID:-none} $NEWID\" >>$HOME/checks
[ \"$(readlink -f $HOME/host/current)\" = \"$(readlink -f $NEWROOT)\" ] || echo \"not current\" >>$HOME/checks
echo looked at $NEWID
[ ! -e $HOME/sick-$NEWID ]";

/// A host on its first release, with a second one that its check will refuse.
async fn sick(keep: Option<usize>) -> (Host, Digest, Digest) {
    let mut host = Host::new();
    host.keep = keep;
    host.hook("check", CHECK);
    let first = host.release(1);
    assert_eq!(host.look().await, Exit::Success);
    let second = host.release(2);
    host.mark("sick", &second);
    host.check_timeout = SHORT;
    (host, first, second)
}

#[tokio::test]
async fn check_that_passes_at_the_third_time_is_enough() {
    let host = Host::new();
    host.hook(
        "check",
        "echo x >>$HOME/tries; [ $(wc -l <$HOME/tries) -ge 3 ]",
    );
    let first = host.release(1);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&first);
    assert_eq!(host.lines("tries").len(), 3);
    let run = &host.entry().hooks["check"];
    assert_eq!((run.status, &run.release), (Some(0), &first));
}

#[tokio::test]
async fn check_that_never_passes_brings_the_old_release_back_for_good() {
    // Whatever is to be removed: not what may have to be gone back to.
    for keep in [None, Some(0)] {
        let (mut host, first, second) = sick(keep).await;
        host.check_timeout = Duration::from_secs(3);
        assert_eq!(host.look().await, Exit::Failure);
        host.assert_on(&first);
        let expected = [
            format!("none {first}"),
            format!("{first} {second}"),
            // Old and new exchanged.
            format!("{second} {first}"),
        ];
        assert_eq!(host.runs(), expected);
        let checks = host.lines("checks");
        let (once, later) = checks.split_first().unwrap();
        assert_eq!(*once, format!("none {first}"));
        assert!(!later.is_empty());
        assert!(
            later
                .iter()
                .all(|check| *check == format!("{first} {second}")),
            "{later:?}"
        );
        let entry = host.entry();
        assert_eq!(entry.step, JournalStep::RolledBack);
        assert_eq!(entry.bad.len(), 1);
        assert_eq!(
            (&entry.bad[0].id, entry.bad[0].release.as_deref()),
            (&second, Some("v2"))
        );
        assert!(
            entry.bad[0].why.contains("did not pass within"),
            "{}",
            entry.bad[0].why
        );
        let check = &entry.hooks["check"];
        assert_eq!(check.status, Some(1));
        assert_eq!(check.output, [format!("looked at {second}")]);
        assert!(check.began <= check.ended);
        assert_eq!(entry.hooks["undo"].release, first);

        // It is bad for the next run too, although it would pass by now.
        host.unmark("sick", &second);
        assert_eq!(host.look().await, Exit::Failure);
        assert_eq!(host.runs(), expected);
        // A newer one is not.
        host.check_timeout = LONG;
        let third = host.release(3);
        assert_eq!(host.look().await, Exit::Success);
        host.assert_on(&third);
        assert_eq!(host.runs()[3], format!("{first} {third}"));
        assert_eq!(host.has_tree(&first), keep.is_none());
        // And nor is what was forgiven, while no agent ran to hear of it.
        host.ask("retry");
        host.release(2);
        assert_eq!(host.look().await, Exit::Success);
        host.assert_on(&second);
        assert!(host.entry().bad.is_empty() && !host.path("host/retry").exists());
    }
}

#[tokio::test]
async fn failing_script_is_undone_where_that_is_wanted() {
    let mut host = Host::new();
    host.on_failure = OnFailure::Undo;
    let first = host.release(1);
    host.look().await;
    let second = host.release(2);
    host.mark("fail", &second);
    assert_eq!(host.look().await, Exit::Failure);
    host.assert_on(&first);
    assert_eq!(
        host.runs()[1..],
        [format!("{first} {second}"), format!("{second} {first}")]
    );
    let entry = host.entry();
    assert_eq!(entry.bad[0].id, second);
    assert!(
        entry.bad[0].why.contains("exited with status 1"),
        "{}",
        entry.bad[0].why
    );
    assert_eq!(entry.hooks["script"].status, Some(1));
    assert_eq!(host.look().await, Exit::Failure);
    assert_eq!(host.runs().len(), 3);
}

#[tokio::test]
async fn way_back_that_fails_is_gone_on_with_by_the_next_run() {
    let (host, first, second) = sick(None).await;
    host.mark("fail", &first);
    for tries in 3..5 {
        assert_eq!(host.look().await, Exit::Failure);
        assert_eq!(host.runs().len(), tries, "{:?}", host.runs());
        let entry = host.entry();
        assert_eq!(entry.step, JournalStep::Undo);
        assert_eq!(entry.unfinished, Some(second.clone()));
        assert_eq!(entry.hooks["undo"].status, Some(1));
    }
    host.unmark("fail", &first);
    assert_eq!(host.look().await, Exit::Failure);
    host.assert_on(&first);
    assert_eq!(host.runs().last(), Some(&format!("{second} {first}")));
    assert!(host.entry().bad[0].why.contains("did not pass"));
    // A newer release would have done as well.
    let (mut host, first, _) = sick(None).await;
    host.mark("fail", &first);
    assert_eq!(host.look().await, Exit::Failure);
    let third = host.release(3);
    assert_eq!(
        host.look().await,
        Exit::Failure,
        "the way back is tried first"
    );
    host.unmark("fail", &first);
    host.check_timeout = LONG;
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&third);
}

/// A host with a release, and the next one, whose script says no on both ways.
async fn between_two_releases() -> (Host, [Digest; 2]) {
    let host = Host::new();
    let first = host.release(1);
    assert_eq!(host.look().await, Exit::Success);
    let second = host.release(2);
    for id in [&first, &second] {
        host.mark("fail", id);
    }
    (host, [first, second])
}

#[tokio::test]
async fn following_goes_on_with_a_way_back_that_fails_and_tries_again_what_is_forgiven() {
    let (host, [first, second]) = between_two_releases().await;
    let agent = host.follow(OnFailure::Undo);
    // There, and twice in vain back.
    until("the way back to fail twice", || host.runs().len() >= 4).await;
    assert_eq!(host.directory_current(), first);
    host.unmark("fail", &first);
    until("it to succeed", || {
        host.entry().step == JournalStep::RolledBack
    })
    .await;
    host.assert_on(&first);
    assert!(
        host.runs()[2..]
            .iter()
            .all(|run| *run == format!("{second} {first}"))
    );
    let times = host.times();
    assert!(times[3] - times[2] >= 500, "{times:?}");
    // It is not tried again, until somebody asks for it.
    let runs = host.runs().len();
    // A signal alone says nothing: what was asked for may have been seen to before it came.
    agent.tell(Signal::Look).await;
    host.ask("retry");
    agent.tell(Signal::Look).await;
    until("the second release to be tried once more", || {
        host.runs().len() > runs && host.entry().step == JournalStep::RolledBack
    })
    .await;
    host.assert_on(&first);
    assert_eq!(host.runs()[runs], format!("{first} {second}"));
    let third = host.release(3);
    until("the third release", || {
        host.entry().step == JournalStep::Idle
    })
    .await;
    assert_eq!(agent.end().await, Exit::Success);
    host.assert_on(&third);
}

#[tokio::test]
async fn way_back_is_tried_while_a_newer_release_does_not_come() {
    let (host, [first, second]) = between_two_releases().await;
    let agent = host.follow(OnFailure::Undo);
    until("the way back to fail", || host.runs().len() >= 3).await;
    let known: Vec<_> = host.source.blobs.lock().unwrap().keys().cloned().collect();
    let third = host.release(3);
    // Its layers are not there, and what describes it is.
    let missing: Vec<_> = {
        let mut blobs = host.source.blobs.lock().unwrap();
        let new = |digest: &Digest, bytes: &mut Vec<u8>| {
            !known.contains(digest) && bytes.first() != Some(&b'{')
        };
        blobs.extract_if(.., new).collect()
    };
    assert_eq!(missing.len(), 1);
    let fetched = host.source.fetched.load(Ordering::Relaxed);
    let fetches = || host.source.fetched.load(Ordering::Relaxed) - fetched;
    until("the newer one to be tried", || fetches() >= 1).await;
    let runs = host.runs().len();
    until("the way back to be tried again", || {
        host.runs().len() > runs
    })
    .await;
    until("both to be tried again", || fetches() >= 2).await;
    host.unmark("fail", &first);
    until("the host to be back", || host.entry().unfinished.is_none()).await;
    assert_eq!(host.directory_current(), first);
    assert_eq!(host.state().id, first);
    host.source.blobs.lock().unwrap().extend(missing);
    until("the third release", || host.state().id == third).await;
    assert_eq!(agent.end().await, Exit::Success);
    host.assert_on(&third);
    assert_eq!(host.runs().last(), Some(&format!("{first} {third}")));
    let bad = host.entry().bad;
    assert_eq!(
        (&bad[0].id, bad[0].release.as_deref()),
        (&second, Some("v2"))
    );
}

#[tokio::test]
async fn first_release_that_is_refused_leaves_nothing_deployed() {
    let mut host = Host::new();
    host.hook("check", CHECK);
    host.check_timeout = SHORT;
    let first = host.release(1);
    host.mark("sick", &first);
    for _ in 0..2 {
        assert_eq!(host.look().await, Exit::Failure);
        assert_eq!(host.runs(), [format!("none {first}")]);
        assert!(fs::symlink_metadata(host.path("host/current")).is_err());
        assert!(!host.path("host/state.json").exists());
        let entry = host.entry();
        assert_eq!((entry.unfinished, entry.bad.len()), (None, 1));
    }
    host.check_timeout = LONG;
    let second = host.release(2);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&second);
    assert_eq!(host.runs()[1], format!("none {second}"));
}

#[tokio::test]
async fn prepare_refuses_before_anything_is_changed() {
    let host = Host::new();
    host.hook(
        "prepare",
        "echo \"${OLDID:-none} $NEWID $(cat $NEWROOT/b)\" >>$HOME/prepared; [ ! -e $HOME/busy ]",
    );
    let first = host.release(1);
    host.look().await;
    let second = host.release(2);
    fs::write(host.path("busy"), "").unwrap();
    for _ in 0..2 {
        assert_eq!(host.look().await, Exit::Failure);
        host.assert_on(&first);
        assert_eq!(host.runs().len(), 1);
        assert!(host.entry().bad.is_empty());
    }
    assert_eq!(host.entry().hooks["prepare"].status, Some(1));
    fs::remove_file(host.path("busy")).unwrap();
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&second);
    let asked = host.lines("prepared");
    assert_eq!(asked.len(), 4);
    assert_eq!(asked[3], format!("{first} {second} b of v2"));
}

#[tokio::test]
async fn dying_on_the_way_back_ends_on_the_old_release_all_the_same() {
    for on_failure in [OnFailure::Retry, OnFailure::Undo] {
        let step = at_each_death(async |death| {
            let (mut host, first, second) = sick(Some(0)).await;
            host.on_failure = on_failure;
            if on_failure == OnFailure::Undo {
                host.mark("fail", &second);
            }
            let (_, works) = host.once(Some(death)).await;
            // The first run may only finish, and the second says that it is bad.
            for _ in 0..2 {
                assert_eq!(host.look().await, Exit::Failure, "{death:?}");
            }
            host.assert_on(&first);
            let runs = host.whole_runs(death);
            assert_eq!(runs.last(), Some(&format!("{second} {first}")), "{death:?}");
            let back = runs.iter().filter(|run| **run == runs[runs.len() - 1]);
            assert_eq!(back.count(), 1, "{death:?}: {runs:?}");
            assert_eq!(host.entry().bad[0].id, second);
            works
        })
        .await;
        let steps = match on_failure {
            OnFailure::Retry => "recover, fetch, stage, prepare, script, switch, check, undo",
            OnFailure::Undo => "recover, fetch, stage, prepare, script, undo",
        };
        assert_eq!(step, steps.split(", ").count(), "{steps}");
    }
}

#[tokio::test]
async fn kept_trees_are_the_last_ones_that_were_deployed() {
    let mut host = Host::new();
    host.keep = Some(2);
    host.hook("check", CHECK);
    let mut ids = Vec::new();
    for number in 1..6 {
        let id = host.release(number);
        // One that was refused is not worth keeping.
        let sick = number == 3;
        host.check_timeout = if sick { SHORT } else { LONG };
        if sick {
            host.mark("sick", &id);
        }
        assert_eq!(host.look().await == Exit::Failure, sick);
        ids.push(id);
    }
    let there: Vec<_> = ids.iter().map(|id| host.has_tree(id)).collect();
    assert_eq!(there, [false, true, false, true, true]);
    let history: Vec<_> = host.entry().history;
    let history: Vec<_> = history.iter().map(|known| &known.record.id).collect();
    assert_eq!(history, [&ids[3], &ids[1]]);
}

#[tokio::test]
async fn what_was_deployed_before_is_deployed_again_when_somebody_asks_for_it() {
    let mut host = Host::new();
    host.keep = Some(1);
    let first = host.release(1);
    host.look().await;
    host.ask("rollback");
    assert_eq!(
        host.look().await,
        Exit::Success,
        "nothing was deployed before"
    );
    assert!(!host.path("host/rollback").exists());
    assert!(host.entry().bad.is_empty());
    let second = host.release(2);
    assert_eq!(host.look().await, Exit::Success);
    assert_eq!(host.source.fetched.load(Ordering::Relaxed), 3);
    host.ask("rollback");
    // The channel has the one that is left.
    assert_eq!(host.look().await, Exit::Failure);
    host.assert_on(&first);
    assert!(!host.path("host/rollback").exists());
    assert_eq!(host.runs()[2], format!("{second} {first}"));
    let entry = host.entry();
    assert_eq!((&entry.bad[0].id, &entry.wanted), (&second, &None));
    assert!(
        entry.bad[0].why.contains("went back"),
        "{}",
        entry.bad[0].why
    );
    // Nothing had to be fetched, and what its script is told comes from the journal.
    assert_eq!(host.source.fetched.load(Ordering::Relaxed), 3);
    let state = host.state();
    assert_eq!(
        (state.release.as_deref(), state.layers.len()),
        (Some("v1"), 2)
    );
    assert_eq!(host.look().await, Exit::Failure);
    assert_eq!(host.runs().len(), 3);
    host.ask("retry");
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&second);
}

#[tokio::test]
async fn dying_on_the_way_to_what_was_before_ends_there_all_the_same() {
    let step = at_each_death(async |death| {
        let host = Host::new();
        let first = host.release(1);
        host.look().await;
        let second = host.release(2);
        host.look().await;
        host.ask("rollback");
        let (_, works) = host.once(Some(death)).await;
        for _ in 0..2 {
            assert_eq!(host.look().await, Exit::Failure, "{death:?}");
        }
        host.assert_on(&first);
        let runs = host.runs();
        assert!(runs.len() >= 3, "{death:?}: {runs:?}");
        let back = format!("{second} {first}");
        assert!(
            runs[2..].iter().all(|run| *run == back),
            "{death:?}: {runs:?}"
        );
        assert_eq!(host.entry().bad[0].id, second);
        works
    })
    .await;
    assert_eq!(
        step, 9,
        "recover, fetch, stage, prepare, script, switch, check, save, clean"
    );
}
