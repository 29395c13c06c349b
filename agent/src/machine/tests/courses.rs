//! Courses of events, and what the machine has done at their end.

use super::*;

#[test]
fn a_deployment_goes_through_its_steps() {
    let mut state = play(Mode::Follow, &[recovered(Some('a'), None, None)]).0;
    let mut event = Event::Seen(id('b'));
    let mut works = Vec::new();
    while {
        let actions;
        (state, actions) = state.step(event);
        let before = works.len();
        works.extend(actions.into_iter().filter_map(|action| match action {
            Action::Work(work) => Some(work),
            _ => None,
        }));
        before < works.len()
    } {
        event = Event::Done;
    }
    let (a, b) = (id('a'), id('b'));
    let old = Some(a);
    let expected = [
        Work::Fetch(b.clone()),
        Work::Stage(b.clone()),
        Work::Prepare {
            new: b.clone(),
            old: old.clone(),
        },
        Work::Script {
            new: b.clone(),
            old,
        },
        Work::Switch(b.clone()),
        Work::Check(b.clone()),
        Work::Save(b.clone()),
        Work::Clean(b.clone()),
    ];
    assert_eq!(works, expected);
    assert_eq!(state.deployed(), Some(&b));
}

#[test]
fn failures_are_counted_until_a_newer_release_comes() {
    let fail = [Event::Done, Event::Done, Event::Done, Event::Refused];
    let mut events = vec![recovered(Some('a'), None, None), Event::Seen(id('b'))];
    for failures in 1..3 {
        events.extend(fail.clone());
        let (_, actions) = play(Mode::Follow, &events);
        let resume = Resume::Fetch;
        assert!(
            actions.contains(&Action::Retry { failures, resume }),
            "{actions:?}"
        );
        events.push(Event::Retry);
    }
    events.extend(fail);
    events.push(Event::Seen(id('c')));
    events.push(Event::Failed);
    let (_, actions) = play(Mode::Follow, &events);
    assert!(
        actions.contains(&Action::Retry {
            failures: 1,
            resume: Resume::Fetch
        }),
        "{actions:?}"
    );
}

#[test]
fn after_a_failed_script_going_back_deploys_the_old_release_again() {
    let events = [
        recovered(Some('a'), None, None),
        Event::Seen(id('b')),
        Event::Done,
        Event::Done,
        Event::Done,
        Event::Refused,
        Event::Seen(id('a')),
        Event::Done,
        Event::Done,
        Event::Done,
    ];
    let (_, actions) = play(Mode::Follow, &events);
    assert_eq!(
        actions,
        [Action::Work(Work::Script {
            new: id('a'),
            old: Some(id('b'))
        })]
    );
    // Without the script having been begun there is nothing to bring back.
    let events = [
        recovered(Some('a'), None, None),
        Event::Seen(id('b')),
        Event::Failed,
        Event::Seen(id('a')),
    ];
    let (state, _) = play(Mode::Follow, &events);
    assert_eq!(state.phase, Phase::Watching);
    assert_eq!(state.seen, Some(id('a')));
}

#[test]
fn one_look_ends_with_what_it_found() {
    let done = |count| vec![Event::Done; count];
    let table = [
        (
            vec![recovered(Some('a'), None, None), Event::Seen(id('a'))],
            Exit::Success,
        ),
        (
            [
                vec![recovered(None, None, None), Event::Seen(id('a'))],
                done(8),
            ]
            .concat(),
            Exit::Success,
        ),
        (
            vec![recovered(None, None, None), Event::Missing],
            Exit::Failure,
        ),
        (
            vec![recovered(None, None, None), Event::SourceFailed],
            Exit::Failure,
        ),
        (
            vec![
                recovered(None, None, None),
                Event::Seen(id('a')),
                Event::Failed,
            ],
            Exit::Failure,
        ),
        (
            vec![recovered(None, None, None), Event::Shutdown],
            Exit::Failure,
        ),
        // What was left over is finished first, and then the look is taken.
        (
            [
                vec![recovered(Some('a'), Some('b'), Some('b'))],
                done(4),
                vec![Event::Seen(id('b'))],
            ]
            .concat(),
            Exit::Success,
        ),
        (vec![Event::Failed], Exit::Failure),
    ];
    for (events, exit) in table {
        assert_eq!(
            play(Mode::Once, &events).0.phase,
            Phase::Stopped(exit),
            "{events:?}"
        );
    }
}

#[test]
fn a_succeeded_script_is_recorded_even_while_stopping() {
    let events = [
        recovered(None, None, None),
        Event::Seen(id('a')),
        Event::Done,
        Event::Done,
        Event::Done,
        Event::Shutdown,
        Event::Done,
        Event::Done,
        Event::Done,
        Event::Done,
        Event::Done,
    ];
    let (state, _) = play(Mode::Follow, &events);
    assert_eq!(state.phase, Phase::Stopped(Exit::Success));
    assert_eq!(state.deployed(), Some(&id('a')));
}

#[test]
fn a_silent_registry_is_reported_once_for_every_change() {
    let reports = |events: &[Event]| {
        let (mut state, _) = State::start(Mode::Follow, OnFailure::Retry);
        let mut reports = Vec::new();
        for event in events {
            let actions;
            (state, actions) = state.step(event.clone());
            reports.extend(actions.into_iter().filter_map(|action| match action {
                Action::Report(report) => Some(report),
                _ => None,
            }));
        }
        reports
    };
    let a = id('a');
    let found = reports(&[
        recovered(Some('a'), None, None),
        Event::Seen(a.clone()),
        Event::SourceFailed,
        Event::SourceFailed,
        Event::SourceFailed,
        Event::Unchanged { waited: false },
        Event::Missing,
        Event::Missing,
        Event::SourceFailed,
        Event::Seen(a.clone()),
    ]);
    let expected = [
        Report::Current(a.clone()),
        Report::SourceLost,
        Report::SourceBack,
        Report::ChannelMissing,
        Report::SourceLost,
        Report::SourceBack,
        Report::Current(a),
    ];
    assert_eq!(found, expected);
}
