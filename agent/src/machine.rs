//! What the agent does next: a pure function of what it knows and what happened.
//! `runner` calls it and executes the actions that it returns; nothing here waits, reads or
//! writes.
//!
//! A deployment is a chain of steps, each of which can be done again without harm:
//!
//! ```text
//! fetch → stage → script → save → switch → clean
//! ```
//!
//! Whatever fails before `save` begins again at `fetch` after a pause, where everything that
//! is there already is passed over; meanwhile the channel is watched, and another release
//! takes the place of the failing one. From `save` on the script has succeeded: that is
//! finished, and the script not run again.

mod words;

pub use words::{Action, Event, Exit, Id, Mode, Pause, Phase, Report, Resume, Step, Work};

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
const FAILURES_MAX: u32 = if cfg!(test) { 3 } else { 16 };

/// Everything that decides what comes next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    mode: Mode,
    deployed: Option<Id>,
    unfinished: Option<Id>,
    source: Source,
    /// Whether the channel has been seen in this run.
    looked: bool,
    stopping: bool,
    phase: Phase,
}

impl State {
    /// Returns the first state and what to do in it.
    pub fn start(mode: Mode) -> (Self, Vec<Action>) {
        let state = Self {
            mode,
            deployed: None,
            unfinished: None,
            source: Source::Answering,
            looked: false,
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

    /// Returns the release whose script was begun and is not known to have succeeded.
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
            (Phase::Watching { .. } | Phase::Waiting { .. }, Event::Shutdown) => {
                self.stop_when_told()
            }
            (_, Event::Shutdown) => {
                self.stopping = true;
                vec![Action::Interrupt]
            }
            (
                Phase::Recovering,
                Event::Recovered {
                    deployed,
                    unfinished,
                    uncommitted,
                },
            ) => self.recovered(deployed, unfinished, uncommitted),
            (Phase::Recovering, Event::Failed) => self.stop(Exit::Failure),
            (
                Phase::Deploying {
                    target,
                    failures,
                    step,
                },
                Event::Done,
            ) => self.done(target, failures, step),
            (
                Phase::Deploying {
                    target,
                    failures,
                    step,
                },
                Event::Failed,
            ) => self.failed(target, failures, step),
            (
                Phase::Waiting {
                    target,
                    failures,
                    resume,
                },
                Event::Retry,
            ) => match resume {
                Resume::Fetch => self.begin(target, failures, Step::Fetch),
                Resume::Save => self.begin(target, failures, Step::Save),
            },
            (Phase::Watching { seen }, event) => self.watched(seen, None, event),
            (
                Phase::Waiting {
                    target,
                    failures,
                    resume: Resume::Fetch,
                },
                event,
            ) => self.watched(Some(target.clone()), Some((target, failures)), event),
            _ => Vec::new(),
        }
    }

    fn recovered(
        &mut self,
        deployed: Option<Id>,
        unfinished: Option<Id>,
        uncommitted: Option<Id>,
    ) -> Vec<Action> {
        self.deployed = deployed;
        self.unfinished = unfinished;
        match uncommitted {
            Some(target) => {
                let mut actions = vec![Action::Report(Report::Finishing(target.clone()))];
                actions.extend(self.begin(target, 0, Step::Save));
                actions
            }
            None if self.stopping => self.stop_when_told(),
            None => self.watch(None, Pause::None),
        }
    }

    /// A step is done: the next one, or the end of the deployment.
    fn done(&mut self, target: Id, failures: u32, step: Step) -> Vec<Action> {
        let next = match step {
            Step::Fetch | Step::Stage if self.stopping => return self.stop_when_told(),
            Step::Fetch => Step::Stage,
            Step::Stage => {
                let actions = self.begin(target.clone(), failures, Step::Script);
                self.unfinished = Some(target);
                return actions;
            }
            Step::Script => Step::Save,
            Step::Save => {
                self.deployed = Some(target.clone());
                self.unfinished = None;
                Step::Switch
            }
            Step::Switch => {
                let mut actions = vec![Action::Report(Report::Deployed(target.clone()))];
                actions.extend(self.begin(target, 0, Step::Clean));
                return actions;
            }
            Step::Clean => return self.finished(target),
        };
        self.begin(target, failures, next)
    }

    fn failed(&mut self, target: Id, failures: u32, step: Step) -> Vec<Action> {
        let resume = match step {
            Step::Fetch | Step::Stage | Step::Script => Resume::Fetch,
            Step::Save | Step::Switch => Resume::Save,
            // The release runs; what was not removed now is removed after the next one.
            Step::Clean => return self.finished(target),
        };
        if self.stopping {
            return self.stop_when_told();
        }
        if self.mode == Mode::Once {
            return self.stop(Exit::Failure);
        }
        let failures = (failures + 1).min(FAILURES_MAX);
        self.phase = Phase::Waiting {
            target: target.clone(),
            failures,
            resume,
        };
        let mut actions = vec![
            Action::Report(Report::Retrying(target.clone(), failures)),
            Action::Retry { failures },
        ];
        if resume == Resume::Fetch {
            actions.push(Action::Watch {
                known: Some(target),
                pause: Pause::None,
            });
        }
        actions
    }

    /// The deployment is over.
    fn finished(&mut self, target: Id) -> Vec<Action> {
        if self.stopping {
            return self.stop_when_told();
        }
        // What a run before this one left over was finished: the look is still to come.
        if !self.looked {
            return self.watch(None, Pause::None);
        }
        if self.mode == Mode::Once {
            return self.stop(Exit::Success);
        }
        self.watch(Some(target), Pause::None)
    }

    /// Something was heard of the channel, while nothing is done or `waiting` is to be tried
    /// again.
    fn watched(
        &mut self,
        known: Option<Id>,
        waiting: Option<(Id, u32)>,
        event: Event,
    ) -> Vec<Action> {
        match event {
            Event::Seen(id) => {
                let mut actions = self.heard();
                self.looked = true;
                actions.extend(self.seen(id, waiting));
                actions
            }
            Event::Unchanged { waited } => {
                let mut actions = self.heard();
                let pause = if waited { Pause::None } else { Pause::Poll };
                actions.push(Action::Watch { known, pause });
                actions
            }
            Event::Missing => {
                let mut actions = self.heard();
                if self.source != Source::Missing {
                    self.source = Source::Missing;
                    actions.push(Action::Report(Report::ChannelMissing));
                }
                if self.mode == Mode::Once {
                    actions.extend(self.stop(Exit::Failure));
                    return actions;
                }
                actions.push(Action::Watch {
                    known,
                    pause: Pause::Poll,
                });
                actions
            }
            Event::SourceFailed => {
                let failures = match self.source {
                    Source::Silent(failures) => (failures + 1).min(FAILURES_MAX),
                    _ => 1,
                };
                let mut actions = Vec::new();
                if failures == 1 && self.mode == Mode::Follow {
                    actions.push(Action::Report(Report::SourceLost));
                }
                self.source = Source::Silent(failures);
                if self.mode == Mode::Once {
                    actions.extend(self.stop(Exit::Failure));
                    return actions;
                }
                actions.push(Action::Watch {
                    known,
                    pause: Pause::Backoff(failures),
                });
                actions
            }
            _ => Vec::new(),
        }
    }

    /// The channel is release `id`.
    fn seen(&mut self, id: Id, waiting: Option<(Id, u32)>) -> Vec<Action> {
        self.source = Source::Answering;
        match &waiting {
            Some((target, _)) if *target == id => {
                return vec![Action::Watch {
                    known: Some(id),
                    pause: Pause::None,
                }];
            }
            _ => {}
        }
        let mut actions = Vec::new();
        if let Some((target, _)) = waiting {
            actions.push(Action::Report(Report::Abandoned(target)));
        }
        // A script that was begun for another release has left the host nowhere: then the
        // deployed release has to be deployed again.
        if self.deployed.as_ref() == Some(&id) && self.unfinished.is_none() {
            actions.push(Action::Report(Report::Current(id.clone())));
            actions.extend(match self.mode {
                Mode::Once => self.stop(Exit::Success),
                Mode::Follow => self.watch(Some(id), Pause::None),
            });
            return actions;
        }
        actions.push(Action::Report(Report::Found(id.clone())));
        actions.extend(self.begin(id, 0, Step::Fetch));
        actions
    }

    /// The source has answered, whatever it said.
    fn heard(&mut self) -> Vec<Action> {
        match self.source {
            Source::Silent(_) => {
                self.source = Source::Answering;
                vec![Action::Report(Report::SourceBack)]
            }
            _ => Vec::new(),
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
            Step::Script => Work::Script {
                old: self.old(&target),
                new: target,
            },
            Step::Save => Work::Save(target),
            Step::Switch => Work::Switch(target),
            Step::Clean => Work::Clean(target),
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

    fn watch(&mut self, seen: Option<Id>, pause: Pause) -> Vec<Action> {
        self.phase = Phase::Watching { seen: seen.clone() };
        vec![Action::Watch { known: seen, pause }]
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
