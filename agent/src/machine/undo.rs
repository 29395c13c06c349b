//! The way back: from a release whose check or script said no to the deployed one, what is
//! then not tried again, and how it is forgiven; and from the deployed one to the one before it,
//! when somebody wants that. Part of `machine`.

use super::{Action, Exit, Id, Pause, Pending, Phase, Report, Resume, State, Step};

impl State {
    /// The release is not to be deployed again, and the host goes back.
    pub(super) fn condemn(&mut self, target: Id) -> Vec<Action> {
        self.bad.insert(target.clone());
        self.begin_undo(target)
    }

    /// The host goes back from `unfinished`, whose script was begun.
    pub(super) fn begin_undo(&mut self, unfinished: Id) -> Vec<Action> {
        let mut actions = vec![Action::Report(Report::Undoing(unfinished.clone()))];
        actions.extend(self.begin(unfinished, 0, Step::Undo));
        actions
    }

    /// The host is back.
    pub(super) fn undone(&mut self, failed: Id) -> Vec<Action> {
        self.unfinished = None;
        let mut actions = vec![Action::Report(Report::RolledBack {
            failed,
            back: self.deployed.clone(),
        })];
        actions.extend(match self.seen.clone() {
            _ if self.stopping => self.stop_when_told(),
            // An earlier run began the way back: the look is still to come.
            None => self.watch(Pause::None),
            Some(seen) if self.bad.contains(&seen) => self.rest(Exit::Failure),
            // It was forgiven meanwhile.
            Some(seen) => self.seen(seen, None),
        });
        actions
    }

    /// What is tried in the place of a step that failed, where the host is on its way back: that
    /// way and the release that the channel has by now, in turn, since either may stay out of
    /// reach for long.
    pub(super) fn in_turn(&self, target: &Id, step: Step) -> Option<Pending> {
        match step {
            Step::Fetch | Step::Stage | Step::Prepare if self.seen.as_ref() == Some(target) => {
                let left = self.unfinished.clone();
                let left = left.filter(|left| self.bad.contains(left))?;
                Some((left, Resume::Undo))
            }
            Step::Undo => {
                let newer = self.seen.clone();
                let newer = newer.filter(|newer| !self.bad.contains(newer))?;
                Some((newer, Resume::Fetch))
            }
            _ => None,
        }
    }

    /// Whether the host may be brought from the deployed release to this one.
    pub(super) fn is_a_way_back(&self, id: &Id) -> bool {
        let other = self
            .deployed
            .as_ref()
            .is_some_and(|deployed| deployed != id);
        other && !self.bad.contains(id)
    }

    /// Somebody wants an earlier release: the deployed one is not to come back by itself.
    pub(super) fn go_back(&mut self, id: Id, waiting: Option<Id>) -> Vec<Action> {
        self.bad.extend(self.deployed.clone());
        let mut actions = Vec::new();
        actions.extend(waiting.map(|target| Action::Report(Report::Abandoned(target))));
        actions.extend(self.restore(id));
        actions
    }

    /// Deploys an earlier release, of which everything is there.
    pub(super) fn restore(&mut self, id: Id) -> Vec<Action> {
        let mut actions = vec![Action::Report(Report::GoingBack(id.clone()))];
        actions.extend(self.begin(id, 0, Step::Fetch));
        actions
    }

    /// The bad-list is empty again: what waited for that is tried at once.
    pub(super) fn forgiven(&mut self, phase: Phase) -> Vec<Action> {
        let waited = self
            .seen
            .clone()
            .filter(|seen| self.bad.contains(seen) && self.deployed.as_ref() != Some(seen));
        self.bad.clear();
        match (phase, waited) {
            (Phase::Watching, Some(seen)) => self.seen(seen, None),
            (
                Phase::Waiting {
                    target,
                    resume: Resume::Undo,
                    ..
                },
                Some(seen),
            ) => self.seen(seen, Some((target, Resume::Undo))),
            (Phase::Waiting { target, resume, .. }, _) => self.begin(target, 0, resume.step()),
            _ => Vec::new(),
        }
    }
}
