//! The machine: as a model in all its states, and in single courses of events.

use deploy_spec::Digest;

use super::*;

mod courses;
mod model;
mod undo;
mod world;

fn id(letter: char) -> Id {
    Digest::sha256(letter.to_string().as_bytes())
}

/// Plays events and returns the state and the actions of the last one.
fn play(mode: Mode, events: &[Event]) -> (State, Vec<Action>) {
    play_with(mode, OnFailure::Retry, events)
}

fn play_with(mode: Mode, on_failure: OnFailure, events: &[Event]) -> (State, Vec<Action>) {
    let (mut state, mut actions) = State::start(mode, on_failure);
    for event in events {
        (state, actions) = state.step(event.clone());
    }
    (state, actions)
}

/// What an earlier run left, `uncommitted` where its script has succeeded.
fn recovered(deployed: Option<char>, unfinished: Option<char>, uncommitted: Option<char>) -> Event {
    Event::Recovered(Recovered {
        deployed: deployed.map(id),
        unfinished: unfinished.map(id),
        resume: uncommitted.map(|letter| (id(letter), Resume::Switch)),
        bad: BTreeSet::new(),
    })
}
