//! The machine, checked as a model: every state that can be reached by any events, and what
//! holds in all of them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::OnceLock,
};

use super::*;

/// Every event with every value of three releases. What an earlier run left is told by a few of its values: the rest is
/// reached by what happens after.
fn events() -> Vec<Event> {
    let ids = ['a', 'b', 'c'].map(id);
    let mut events = vec![
        Event::Done,
        Event::Failed,
        Event::Refused,
        Event::Unchanged { waited: true },
        Event::Unchanged { waited: false },
        Event::Missing,
        Event::SourceFailed,
        Event::Retry,
        Event::Forgiven,
        Event::GoBack(id('a')),
        Event::Shutdown,
    ];
    events.extend(ids.map(Event::Seen));
    for deployed in [None, Some(id('a'))] {
        for unfinished in [None, Some(id('a')), Some(id('b'))] {
            let left = unfinished.clone();
            for resume in [Resume::Fetch, Resume::Switch, Resume::Save, Resume::Undo] {
                events.push(Event::Recovered(Recovered {
                    deployed: deployed.clone(),
                    unfinished: unfinished.clone(),
                    resume: left.clone().map(|left| (left, resume)),
                    bad: match resume {
                        Resume::Undo => unfinished.iter().cloned().collect(),
                        _ => BTreeSet::from([id('c')]),
                    },
                }));
            }
        }
    }
    events
}

type Graph = HashMap<State, Vec<(Event, State, Vec<Action>)>>;

/// Returns every state that can be reached, with every step out of it.
fn explore(mode: Mode) -> &'static Graph {
    static FOLLOW: OnceLock<Graph> = OnceLock::new();
    static ONCE: OnceLock<Graph> = OnceLock::new();
    match mode {
        Mode::Follow => FOLLOW.get_or_init(|| visit(mode)),
        Mode::Once => ONCE.get_or_init(|| visit(mode)),
    }
}

fn visit(mode: Mode) -> Graph {
    let mut graph = Graph::new();
    // That a failing script is undone adds ways and takes none: the world is visited both ways.
    let mut open = VecDeque::from([State::start(mode, OnFailure::Undo).0]);
    let events = events();
    while let Some(state) = open.pop_front() {
        if graph.contains_key(&state) {
            continue;
        }
        let steps: Vec<_> = events
            .iter()
            // Nothing else could be told apart there.
            .filter(|event| {
                state.phase == Phase::Recovering || !matches!(event, Event::Recovered(_))
            })
            .map(|event| {
                let (next, actions) = state.clone().step(event.clone());
                (event.clone(), next, actions)
            })
            .collect();
        open.extend(steps.iter().map(|(_, next, _)| next.clone()));
        graph.insert(state, steps);
    }
    graph
}

/// Whether the runner could deliver the event in this state.
fn possible(state: &State, event: &Event) -> bool {
    match (&state.phase, event) {
        (_, Event::Shutdown | Event::Forgiven) => true,
        (_, Event::GoBack(id)) if !state.is_a_way_back(id) => false,
        (Phase::Recovering, Event::Recovered(_) | Event::Failed) => true,
        (Phase::Deploying { .. }, Event::Done | Event::Failed) => true,
        (Phase::Deploying { step, .. }, Event::Refused) => step.may_be_refused(),
        (Phase::Waiting { resume, .. }, event) => {
            matches!(event, Event::Retry) || (resume.gives_way() && is_from_outside(event))
        }
        (Phase::Watching, event) => is_from_outside(event),
        _ => false,
    }
}

fn is_from_outside(event: &Event) -> bool {
    matches!(
        event,
        Event::Seen(_)
            | Event::Unchanged { .. }
            | Event::Missing
            | Event::SourceFailed
            | Event::GoBack(_)
    )
}

#[test]
fn every_state_has_a_way_out() {
    for mode in [Mode::Follow, Mode::Once] {
        let graph = explore(mode);
        assert!(graph.len() > 100, "{} states", graph.len());
        // Backwards from the ends: whoever is not met cannot end.
        let mut before: HashMap<&State, Vec<&State>> = HashMap::new();
        for (state, steps) in graph {
            for (event, next, _) in steps {
                if possible(state, event) {
                    before.entry(next).or_default().push(state);
                }
            }
        }
        let mut open: Vec<&State> = graph
            .keys()
            .filter(|state| matches!(state.phase, Phase::Stopped(_)))
            .collect();
        let mut met: HashSet<&State> = open.iter().copied().collect();
        while let Some(state) = open.pop() {
            for earlier in before.get(state).into_iter().flatten() {
                if met.insert(earlier) {
                    open.push(earlier);
                }
            }
        }
        assert_eq!(met.len(), graph.len(), "some states cannot end");
    }
}

#[test]
fn whatever_state_the_agent_is_in_it_ends_on_the_newest_good_release() {
    let newest = id('c');
    for state in explore(Mode::Follow).keys() {
        if state.stopping || matches!(state.phase, Phase::Stopped(_)) {
            continue;
        }
        // From now on everything works.
        let mut now = state.clone();
        for _ in 0..40 {
            let event = match &now.phase {
                Phase::Recovering => Event::Recovered(Recovered {
                    deployed: Some(id('a')),
                    unfinished: Some(id('b')),
                    ..Recovered::default()
                }),
                Phase::Watching if now.seen.as_ref() == Some(&newest) => break,
                Phase::Watching => Event::Seen(newest.clone()),
                Phase::Waiting { .. } => Event::Retry,
                Phase::Deploying { target, step, .. } => {
                    let begun = matches!(step, Step::Fetch | Step::Script);
                    let begun_now = begun && now != *state;
                    assert!(!begun_now || !now.bad.contains(target), "from {state:?}");
                    Event::Done
                }
                Phase::Stopped(_) => panic!("nobody told it to stop"),
            };
            now = now.step(event).0;
        }
        assert_eq!(now.phase, Phase::Watching, "from {state:?}");
        assert_eq!(now.seen.as_ref(), Some(&newest), "from {state:?}");
        assert_eq!(now.unfinished(), None, "from {state:?}");
        if now.bad.contains(&newest) {
            // What was deployed, or was on its way from a script that had succeeded, or what the
            // channel had, which is tried after somebody went back from what was deployed.
            let on_its_way = match &state.phase {
                Phase::Deploying { target, .. } | Phase::Waiting { target, .. } => Some(target),
                _ => None,
            };
            let before = [state.deployed(), on_its_way, state.seen.as_ref()];
            let recovering = state.phase == Phase::Recovering;
            assert!(
                recovering || before.contains(&now.deployed()),
                "from {state:?}"
            );
        } else {
            assert_eq!(now.deployed(), Some(&newest), "from {state:?}");
        }
    }
}

#[test]
fn no_state_waits_for_what_nobody_started() {
    for mode in [Mode::Follow, Mode::Once] {
        for (state, steps) in explore(mode) {
            for (event, next, actions) in steps {
                if !possible(state, event) {
                    continue;
                }
                let works = actions
                    .iter()
                    .filter(|action| matches!(action, Action::Work(_)))
                    .count();
                let watches = actions
                    .iter()
                    .filter(|action| matches!(action, Action::Watch { .. }))
                    .count();
                let retries = actions
                    .iter()
                    .filter(|action| matches!(action, Action::Retry { .. }))
                    .count();
                let expected = match &next.phase {
                    // The work goes on while it is told to stop, and while others are forgiven; so
                    // does the look.
                    Phase::Deploying { .. } | Phase::Recovering if *event == Event::Shutdown => {
                        (0, 0, 0)
                    }
                    Phase::Deploying { .. } | Phase::Recovering | Phase::Watching
                        if *event == Event::Forgiven && next.phase == state.phase =>
                    {
                        (0, 0, 0)
                    }
                    Phase::Deploying { .. } => (1, 0, 0),
                    Phase::Watching => (0, 1, 0),
                    Phase::Waiting { resume, .. } if !resume.gives_way() => (0, 0, 1),
                    // Already waiting: only the watch begins anew.
                    Phase::Waiting { .. } if matches!(state.phase, Phase::Waiting { .. }) => {
                        (0, 1, 0)
                    }
                    Phase::Waiting { .. } => (0, 1, 1),
                    Phase::Stopped(_) => (0, 0, 0),
                    Phase::Recovering => panic!("nothing leads back to the start"),
                };
                assert_eq!(
                    (works, watches, retries),
                    expected,
                    "{state:?} {event:?} {next:?}"
                );
            }
        }
    }
}

#[test]
fn events_that_mean_nothing_change_nothing() {
    for mode in [Mode::Follow, Mode::Once] {
        for (state, steps) in explore(mode) {
            for (event, next, actions) in steps {
                if !possible(state, event) {
                    assert_eq!((next, &actions[..]), (state, &[][..]), "{event:?}");
                }
            }
        }
    }
}

#[test]
fn only_a_saved_release_becomes_the_deployed_one() {
    for (state, steps) in explore(Mode::Follow) {
        for (event, next, _) in steps {
            if next.deployed != state.deployed && !matches!(event, Event::Recovered(_)) {
                let saved = matches!(
                    &state.phase,
                    Phase::Deploying { target, step: Step::Save, .. } if next.deployed.as_ref() == Some(target)
                );
                assert!(saved && *event == Event::Done, "{state:?} {event:?}");
            }
        }
    }
}

#[test]
fn the_script_is_never_run_twice_without_a_pause_or_another_release() {
    for (state, steps) in explore(Mode::Follow) {
        let Phase::Deploying {
            target,
            step: Step::Script,
            ..
        } = &state.phase
        else {
            continue;
        };
        for (event, next, _) in steps {
            if *event == Event::Refused && !state.stopping && state.deployed() != Some(target) {
                assert!(
                    matches!(&next.phase, Phase::Deploying { target: failed, step: Step::Undo, .. } if failed == target)
                );
            }
            if *event == Event::Failed && !state.stopping {
                let Phase::Waiting {
                    target: waiting,
                    failures,
                    ..
                } = &next.phase
                else {
                    panic!("{next:?}")
                };
                assert_eq!(waiting, target);
                assert!(*failures >= 1);
            }
        }
    }
}

#[test]
fn only_what_was_begun_is_undone() {
    for mode in [Mode::Follow, Mode::Once] {
        for (state, steps) in explore(mode) {
            for (event, next, _) in steps {
                let begun = |id: &Id| {
                    matches!(
                        &next.phase,
                        Phase::Deploying { target, step: Step::Script, .. } if target == id
                    ) || matches!(event, Event::Recovered(_))
                };
                if let Some(id) = &next.unfinished
                    && state.unfinished.as_ref() != Some(id)
                {
                    assert!(begun(id), "{state:?} {event:?}");
                }
                if let Phase::Deploying {
                    target,
                    step: Step::Undo,
                    ..
                } = &next.phase
                {
                    assert_eq!(
                        next.unfinished.as_ref(),
                        Some(target),
                        "{state:?} {event:?}"
                    );
                }
            }
        }
    }
}
