//! Courses of events that lead back: refusals, what is bad after them, and how it is forgiven.

use super::*;

/// From release a, b is fetched, staged, prepared, switched to, and checked: up to the answer of the check.
fn checking() -> Vec<Event> {
    let mut events = vec![recovered(Some('a'), None, None), Event::Seen(id('b'))];
    events.extend(vec![Event::Done; 5]);
    events
}

fn undo(failed: char, back: Option<char>, bad: bool) -> Action {
    Action::Work(Work::Undo {
        failed: id(failed),
        back: back.map(id),
        bad,
    })
}

fn with(mut events: Vec<Event>, more: &[Event]) -> Vec<Event> {
    events.extend_from_slice(more);
    events
}

#[test]
fn a_refusing_check_brings_the_old_release_back() {
    for mode in [Mode::Follow, Mode::Once] {
        let (_, actions) = play(mode, &with(checking(), &[Event::Refused]));
        assert_eq!(
            actions,
            [
                Action::Report(Report::Undoing(id('b'))),
                undo('b', Some('a'), true)
            ]
        );
        let (state, actions) = play(mode, &with(checking(), &[Event::Refused, Event::Done]));
        let report = Report::RolledBack {
            failed: id('b'),
            back: Some(id('a')),
        };
        assert_eq!(actions[0], Action::Report(report));
        assert_eq!(
            (state.deployed(), state.unfinished()),
            (Some(&id('a')), None)
        );
        match mode {
            Mode::Follow => assert_eq!(state.phase, Phase::Watching),
            Mode::Once => assert_eq!(state.phase, Phase::Stopped(Exit::Failure)),
        }
    }
}

#[test]
fn a_check_that_cannot_be_run_is_run_again() {
    let (state, _) = play(Mode::Follow, &with(checking(), &[Event::Failed]));
    assert_eq!(
        state.phase,
        Phase::Waiting {
            target: id('b'),
            failures: 1,
            resume: Resume::Switch
        }
    );
}

#[test]
fn a_refusing_script_is_undone_only_where_that_is_wanted() {
    let mut events = checking();
    events.truncate(5);
    events.push(Event::Refused);
    let (_, actions) = play_with(Mode::Follow, OnFailure::Undo, &events);
    assert_eq!(actions[1], undo('b', Some('a'), true));
    let (state, _) = play_with(Mode::Follow, OnFailure::Retry, &events);
    assert!(matches!(
        state.phase,
        Phase::Waiting {
            resume: Resume::Fetch,
            ..
        }
    ));
    // One that could not even be started has said nothing.
    events.pop();
    events.push(Event::Failed);
    let (state, _) = play_with(Mode::Follow, OnFailure::Undo, &events);
    assert!(matches!(state.phase, Phase::Waiting { .. }));
}

#[test]
fn from_the_first_release_the_way_back_leads_to_nothing() {
    let mut events = checking();
    events[0] = recovered(None, None, None);
    events.push(Event::Refused);
    let (_, actions) = play(Mode::Follow, &events);
    assert_eq!(actions[1], undo('b', None, true));
}

#[test]
fn a_bad_release_is_passed_over_and_a_newer_one_is_not() {
    let undone = with(checking(), &[Event::Refused, Event::Done]);
    let again = |letter| with(undone.clone(), &[Event::Seen(id(letter))]);
    let (state, actions) = play(Mode::Follow, &again('b'));
    assert_eq!(state.phase, Phase::Watching);
    assert_eq!(actions[0], Action::Report(Report::Bad(id('b'))));
    let (_, actions) = play(Mode::Follow, &again('c'));
    assert_eq!(actions[1], Action::Work(Work::Fetch(id('c'))));
    let (_, actions) = play(Mode::Follow, &again('a'));
    assert_eq!(actions[0], Action::Report(Report::Current(id('a'))));
    // So does a run of one look that knows it from before.
    let found = Event::Recovered(Recovered {
        deployed: Some(id('a')),
        bad: BTreeSet::from([id('b')]),
        ..Recovered::default()
    });
    let (state, actions) = play(Mode::Once, &[found, Event::Seen(id('b'))]);
    assert_eq!(state.phase, Phase::Stopped(Exit::Failure));
    assert_eq!(actions, [Action::Report(Report::Bad(id('b')))]);
}

#[test]
fn a_way_back_that_fails_is_tried_again_until_a_newer_release_comes() {
    let mut events = with(checking(), &[Event::Refused]);
    for failures in 1..3 {
        events.push(Event::Refused);
        let (_, actions) = play(Mode::Follow, &events);
        let resume = Resume::Undo;
        let known = Some(id('b'));
        let pause = Pause::None;
        assert_eq!(
            actions,
            [
                Action::Retry { failures, resume },
                Action::Watch { known, pause }
            ]
        );
        // The channel is what failed: nothing to hope for there.
        let (state, _) = play(Mode::Follow, &with(events.clone(), &[Event::Seen(id('b'))]));
        assert!(matches!(state.phase, Phase::Waiting { .. }));
        events.push(Event::Retry);
        let (_, actions) = play(Mode::Follow, &events);
        assert_eq!(actions, [undo('b', Some('a'), true)]);
    }
    let events = with(events, &[Event::Failed, Event::Seen(id('c'))]);
    let (state, actions) = play(Mode::Follow, &events);
    assert_eq!(actions.last(), Some(&Action::Work(Work::Fetch(id('c')))));
    assert_eq!(state.unfinished(), Some(&id('b')));
    // Back to what failed: the host has to go back as well.
    let (_, actions) = play(
        Mode::Follow,
        &with(events, &[Event::Failed, Event::Seen(id('b')), Event::Retry]),
    );
    assert_eq!(actions.last(), Some(&undo('b', Some('a'), true)));
}

#[test]
fn a_way_back_that_fails_and_a_newer_release_that_does_not_come_are_tried_in_turn() {
    let mut events = with(
        checking(),
        &[Event::Refused, Event::Refused, Event::Seen(id('c'))],
    );
    for failures in [1, 2, 2] {
        // Whatever of it fails before its script is begun.
        for course in [
            &[Event::Failed][..],
            &[Event::Done, Event::Failed],
            &[Event::Done, Event::Done, Event::Refused],
        ] {
            let (state, actions) = play(Mode::Follow, &with(events.clone(), course));
            let (resume, pause) = (Resume::Undo, Pause::None);
            let known = Some(id('c'));
            assert_eq!(
                actions,
                [
                    Action::Retry { failures, resume },
                    Action::Watch { known, pause }
                ]
            );
            assert_eq!(state.unfinished(), Some(&id('b')));
        }
        events.extend([Event::Failed, Event::Seen(id('c')), Event::Retry]);
        let (_, actions) = play(Mode::Follow, &events);
        assert_eq!(actions, [undo('b', Some('a'), true)]);
        // The way back leads to where the newer one is deployed from.
        let (state, actions) = play(Mode::Follow, &with(events.clone(), &[Event::Done]));
        assert_eq!(actions.last(), Some(&Action::Work(Work::Fetch(id('c')))));
        assert_eq!(state.unfinished(), None);
        events.extend([Event::Refused, Event::Retry]);
        let (_, actions) = play(Mode::Follow, &events);
        assert_eq!(actions, [Action::Work(Work::Fetch(id('c')))]);
    }
    events.extend(vec![Event::Done; 8]);
    let (state, _) = play(Mode::Follow, &events);
    assert_eq!(
        (state.deployed(), state.unfinished()),
        (Some(&id('c')), None)
    );
}

#[test]
fn what_is_deployed_is_not_condemned() {
    // The script for b failed, and a is brought back.
    let mut events = vec![recovered(Some('a'), Some('b'), None), Event::Seen(id('a'))];
    events.extend(vec![Event::Done; 5]);
    events.push(Event::Refused);
    let (state, _) = play_with(Mode::Follow, OnFailure::Undo, &events);
    assert!(state.bad.is_empty());
    assert_eq!(
        state.phase,
        Phase::Waiting {
            target: id('a'),
            failures: 1,
            resume: Resume::Fetch
        }
    );
}

#[test]
fn forgiving_tries_again_at_once_what_waited_for_it() {
    let undone = with(checking(), &[Event::Refused, Event::Done, Event::Forgiven]);
    let (state, actions) = play(Mode::Follow, &undone);
    assert_eq!(actions.last(), Some(&Action::Work(Work::Fetch(id('b')))));
    assert!(state.bad.is_empty());
    // While the host goes back it does that first.
    let undoing = with(checking(), &[Event::Refused, Event::Forgiven]);
    let (state, actions) = play(Mode::Follow, &undoing);
    assert_eq!(actions, []);
    assert_eq!(state.unfinished(), Some(&id('b')));
    let (_, actions) = play(Mode::Follow, &with(undoing, &[Event::Done]));
    assert_eq!(actions.last(), Some(&Action::Work(Work::Fetch(id('b')))));
    // Pauses are cut short.
    let waiting = with(checking(), &[Event::Failed, Event::Forgiven]);
    let (_, actions) = play(Mode::Follow, &waiting);
    assert_eq!(actions, [Action::Work(Work::Switch(id('b')))]);
}

#[test]
fn an_interrupted_way_back_is_gone_on_with() {
    let found = Event::Recovered(Recovered {
        deployed: Some(id('a')),
        unfinished: Some(id('b')),
        resume: Some((id('b'), Resume::Undo)),
        bad: BTreeSet::from([id('b')]),
    });
    let (_, actions) = play(Mode::Once, std::slice::from_ref(&found));
    assert_eq!(actions[1], undo('b', Some('a'), true));
    let (state, actions) = play(Mode::Once, &[found.clone(), Event::Done]);
    assert_eq!(state.phase, Phase::Watching);
    assert!(matches!(actions[1], Action::Watch { known: None, .. }));
    // And then a newer release is deployed by the same run.
    let (_, actions) = play(Mode::Once, &[found, Event::Done, Event::Seen(id('c'))]);
    assert_eq!(actions.last(), Some(&Action::Work(Work::Fetch(id('c')))));
}

#[test]
fn what_somebody_wants_back_is_deployed_and_stays() {
    let mut events = vec![
        recovered(Some('b'), None, None),
        Event::Seen(id('b')),
        Event::GoBack(id('a')),
    ];
    let (state, actions) = play(Mode::Follow, &events);
    assert_eq!(
        actions,
        [
            Action::Report(Report::GoingBack(id('a'))),
            Action::Work(Work::Fetch(id('a')))
        ]
    );
    assert_eq!(state.bad, BTreeSet::from([id('b')]));
    // What fails on the way is tried again, whatever is known of the channel.
    let failing = with(
        events.clone(),
        &[Event::Failed, Event::Seen(id('b')), Event::Retry],
    );
    let (_, actions) = play(Mode::Follow, &failing);
    assert_eq!(actions, [Action::Work(Work::Fetch(id('a')))]);
    events.extend(vec![Event::Done; 8]);
    let (state, actions) = play(Mode::Follow, &events);
    assert_eq!(
        (state.deployed(), &state.phase),
        (Some(&id('a')), &Phase::Watching)
    );
    assert!(matches!(actions[..], [Action::Watch { .. }]));
    // Until the channel moves, or the one that was left is forgiven.
    for event in [Event::Forgiven, Event::Seen(id('c'))] {
        let (_, actions) = play(Mode::Follow, &with(events.clone(), &[event]));
        assert!(matches!(actions.last(), Some(Action::Work(Work::Fetch(_)))));
    }
    // A run that ended on the way left that to the next one.
    let found = Event::Recovered(Recovered {
        deployed: Some(id('b')),
        unfinished: Some(id('a')),
        resume: Some((id('a'), Resume::Fetch)),
        bad: BTreeSet::from([id('b')]),
    });
    let (_, actions) = play(Mode::Once, std::slice::from_ref(&found));
    assert_eq!(actions[1], Action::Work(Work::Fetch(id('a'))));
    let mut events = vec![found];
    events.extend(vec![Event::Done; 8]);
    events.push(Event::Seen(id('b')));
    let (state, _) = play(Mode::Once, &events);
    assert_eq!(state.phase, Phase::Stopped(Exit::Failure));
    assert_eq!(state.deployed(), Some(&id('a')));
}
