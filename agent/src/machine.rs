//! What the agent does next: a pure function of what it knows and what happened.
//! `runner` calls it and executes the actions that it returns; nothing here waits, reads or
//! writes.
//!
//! A deployment is a chain of steps, each of which can be done again without harm:
//!
//! ```text
//! fetch → stage → prepare → script → switch → check → save → clean
//!                              └────────────────┴──→ undo
//! ```
//!
//! Whatever fails before the script has succeeded begins again at `fetch` after a pause, where
//! everything that is there already is passed over; meanwhile the channel is watched, and
//! another release takes the place of the failing one. From `switch` on the script is not run
//! again. A check that says no, and a script that does where that is wanted, lead to `undo`:
//! the host goes back to what is deployed, and the release to the bad-list. While that fails, a
//! newer release is as good a way out: the two are tried in turn.

mod channel;
mod undo;
mod words;

use std::collections::BTreeSet;

pub use words::{
    Action, Event, Exit, Id, Mode, OnFailure, Pause, Phase, Recovered, Report, Resume, Step, Work,
};

/// How the source was when last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Answering,
    Missing,
    /// Failures in a row.
    Silent(u32),
}

/// Failures are counted no further: pauses have long stopped growing. Tests visit every state,
/// and learn nothing more from higher counts.
const FAILURES_MAX: u32 = if cfg!(test) { 2 } else { 16 };

/// Everything that decides what comes next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    mode: Mode,
    on_failure: OnFailure,
    deployed: Option<Id>,
    unfinished: Option<Id>,
    bad: BTreeSet<Id>,
    source: Source,
    /// What the channel was when last seen in this run.
    seen: Option<Id>,
    stopping: bool,
    phase: Phase,
}

/// What waits for its pause to be over, and may be superseded.
type Pending = (Id, Resume);

impl State {
    /// Returns the first state and what to do in it.
    pub fn start(mode: Mode, on_failure: OnFailure) -> (Self, Vec<Action>) {
        let state = Self {
            mode,
            on_failure,
            deployed: None,
            unfinished: None,
            bad: BTreeSet::new(),
            source: Source::Answering,
            seen: None,
            stopping: false,
            phase: Phase::Recovering,
        };
        (state, vec![Action::Work(Work::Recover)])
    }

    /// Returns what the agent is doing.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Returns what is deployed.
    pub fn deployed(&self) -> Option<&Id> {
        self.deployed.as_ref()
    }

    /// Returns the release whose script was begun and which is neither recorded nor undone.
    pub fn unfinished(&self) -> Option<&Id> {
        self.unfinished.as_ref()
    }

    /// Whether the last look at the channel failed.
    pub fn source_is_silent(&self) -> bool {
        matches!(self.source, Source::Silent(_))
    }

    /// Returns the state after an event, and what to do. An event that means nothing in this
    /// state changes nothing.
    pub fn step(mut self, event: Event) -> (Self, Vec<Action>) {
        let actions = self.next(event);
        (self, actions)
    }

    fn next(&mut self, event: Event) -> Vec<Action> {
        match (self.phase.clone(), event) {
            (Phase::Stopped(_), _) => Vec::new(),
            (Phase::Watching | Phase::Waiting { .. }, Event::Shutdown) => self.stop_when_told(),
            (_, Event::Shutdown) => {
                self.stopping = true;
                vec![Action::Interrupt]
            }
            (phase, Event::Forgiven) => self.forgiven(phase),
            (Phase::Watching, Event::GoBack(id)) if self.is_a_way_back(&id) => {
                self.go_back(id, None)
            }
            (Phase::Waiting { target, resume, .. }, Event::GoBack(id))
                if resume.gives_way() && self.is_a_way_back(&id) =>
            {
                self.go_back(id, Some(target))
            }
            (Phase::Recovering, Event::Recovered(found)) => self.recovered(found),
            (Phase::Recovering, Event::Failed) => self.stop(Exit::Failure),
            (
                Phase::Deploying {
                    target,
                    failures,
                    step,
                },
                event,
            ) => match event {
                Event::Done => self.done(target, failures, step),
                Event::Failed => self.failed(target, failures, step),
                Event::Refused if step.may_be_refused() => self.refused(target, failures, step),
                _ => Vec::new(),
            },
            (
                Phase::Waiting {
                    target,
                    failures,
                    resume,
                },
                Event::Retry,
            ) => self.begin(target, failures, resume.step()),
            (Phase::Watching, event) => self.watched(None, event),
            (Phase::Waiting { target, resume, .. }, event) if resume.gives_way() => {
                self.watched(Some((target, resume)), event)
            }
            _ => Vec::new(),
        }
    }

    fn recovered(&mut self, found: Recovered) -> Vec<Action> {
        self.deployed = found.deployed;
        self.unfinished = found.unfinished;
        self.bad = found.bad;
        match found.resume {
            Some((_, Resume::Fetch)) | None if self.stopping => self.stop_when_told(),
            None => self.watch(Pause::None),
            Some((target, Resume::Fetch)) => self.restore(target),
            Some((target, resume)) => {
                self.unfinished = Some(target.clone());
                let report = match resume {
                    Resume::Undo => Report::Undoing(target.clone()),
                    _ => Report::Finishing(target.clone()),
                };
                let mut actions = vec![Action::Report(report)];
                actions.extend(self.begin(target, 0, resume.step()));
                actions
            }
        }
    }

    /// A step is done: the next one, or the end of the deployment.
    fn done(&mut self, target: Id, failures: u32, step: Step) -> Vec<Action> {
        let next = match step {
            Step::Fetch | Step::Stage | Step::Prepare if self.stopping => {
                return self.stop_when_told();
            }
            Step::Fetch => Step::Stage,
            Step::Stage => Step::Prepare,
            Step::Prepare => Step::Script,
            Step::Script => Step::Switch,
            Step::Switch => Step::Check,
            Step::Check => Step::Save,
            Step::Save => {
                self.deployed = Some(target.clone());
                self.unfinished = None;
                let mut actions = vec![Action::Report(Report::Deployed(target.clone()))];
                actions.extend(self.begin(target, 0, Step::Clean));
                return actions;
            }
            Step::Clean => return self.finished(),
            Step::Undo => return self.undone(target),
        };
        self.begin(target, failures, next)
    }

    /// A step could not be done.
    fn failed(&mut self, target: Id, failures: u32, step: Step) -> Vec<Action> {
        let resume = match step {
            Step::Fetch | Step::Stage | Step::Prepare | Step::Script => Resume::Fetch,
            Step::Switch | Step::Check => Resume::Switch,
            Step::Save => Resume::Save,
            // The release runs; what was not removed now is removed after the next one.
            Step::Clean => return self.finished(),
            Step::Undo => Resume::Undo,
        };
        let (target, resume) = self.in_turn(&target, step).unwrap_or((target, resume));
        self.wait(target, failures, resume)
    }

    /// A script said no.
    fn refused(&mut self, target: Id, failures: u32, step: Step) -> Vec<Action> {
        // From the deployed release itself there is no way back.
        let undone = self.deployed.as_ref() != Some(&target)
            && match step {
                Step::Check => true,
                Step::Script => self.on_failure == OnFailure::Undo,
                _ => false,
            };
        match step {
            // What it was begun for is said again to the next run.
            _ if self.stopping => self.stop_when_told(),
            _ if undone => self.condemn(target),
            // Its manifest has to be seen before it can be deployed once more.
            Step::Check if self.seen.is_none() && self.mode == Mode::Follow => {
                self.watch(Pause::None)
            }
            Step::Check => self.wait(target, failures, Resume::Fetch),
            _ => self.failed(target, failures, step),
        }
    }

    /// What failed is tried again after a pause.
    fn wait(&mut self, target: Id, failures: u32, resume: Resume) -> Vec<Action> {
        if self.stopping {
            return self.stop_when_told();
        }
        if self.mode == Mode::Once {
            return self.stop(Exit::Failure);
        }
        let failures = (failures + 1).min(FAILURES_MAX);
        self.phase = Phase::Waiting {
            target,
            failures,
            resume,
        };
        let mut actions = vec![Action::Retry { failures, resume }];
        if resume.gives_way() {
            actions.push(self.look(Pause::None));
        }
        actions
    }

    /// The deployment is over.
    fn finished(&mut self) -> Vec<Action> {
        if self.stopping {
            return self.stop_when_told();
        }
        match self.seen.clone() {
            // What a run before this one left over was finished: the look is still to come.
            None => self.watch(Pause::None),
            Some(seen) if self.deployed.as_ref() == Some(&seen) => self.rest(Exit::Success),
            Some(seen) if self.bad.contains(&seen) => self.rest(Exit::Failure),
            // It was forgiven while the host went back from it.
            Some(seen) => self.seen(seen, None),
        }
    }

    fn begin(&mut self, target: Id, failures: u32, step: Step) -> Vec<Action> {
        self.phase = Phase::Deploying {
            target: target.clone(),
            failures,
            step,
        };
        let work = match step {
            Step::Fetch => Work::Fetch(target),
            Step::Stage => Work::Stage(target),
            Step::Prepare => Work::Prepare {
                old: self.old(&target),
                new: target,
            },
            Step::Script => {
                let old = self.old(&target);
                self.unfinished = Some(target.clone());
                Work::Script { old, new: target }
            }
            Step::Switch => Work::Switch(target),
            Step::Check => Work::Check(target),
            Step::Save => Work::Save(target),
            Step::Clean => Work::Clean(target),
            Step::Undo => Work::Undo {
                back: self.deployed.clone(),
                bad: self.bad.contains(&target),
                failed: target,
            },
        };
        vec![Action::Work(work)]
    }

    /// What the script finds when it shall switch to `target`.
    fn old(&self, target: &Id) -> Option<Id> {
        if self.deployed.as_ref() == Some(target) {
            self.unfinished
                .clone()
                .filter(|unfinished| unfinished != target)
        } else {
            self.deployed.clone()
        }
    }

    /// Nothing more is to be done for what the channel is.
    fn rest(&mut self, exit: Exit) -> Vec<Action> {
        match self.mode {
            Mode::Once => self.stop(exit),
            Mode::Follow => self.watch(Pause::None),
        }
    }

    fn watch(&mut self, pause: Pause) -> Vec<Action> {
        self.phase = Phase::Watching;
        vec![self.look(pause)]
    }

    fn look(&self, pause: Pause) -> Action {
        Action::Watch {
            known: self.seen.clone(),
            pause,
        }
    }

    fn stop_when_told(&mut self) -> Vec<Action> {
        self.stop(match self.mode {
            Mode::Follow => Exit::Success,
            Mode::Once => Exit::Failure,
        })
    }

    fn stop(&mut self, exit: Exit) -> Vec<Action> {
        self.phase = Phase::Stopped(exit);
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
