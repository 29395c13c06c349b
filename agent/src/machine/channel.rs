//! What is heard of the channel, and what follows. Part of `machine`.

use super::{
    Action, Event, Exit, FAILURES_MAX, Id, Mode, Pause, Pending, Report, Resume, Source, State,
    Step,
};

impl State {
    /// Something was heard of the channel, while nothing is done or `waiting` is to be tried
    /// again.
    pub(super) fn watched(&mut self, waiting: Option<Pending>, event: Event) -> Vec<Action> {
        match event {
            Event::Seen(id) => {
                let mut actions = self.heard();
                match waiting {
                    // Known, and not a better way out: its turn comes.
                    Some((_, Resume::Undo)) if self.seen.as_ref() == Some(&id) => {
                        actions.push(self.look(Pause::None));
                    }
                    waiting => actions.extend(self.seen(id, waiting)),
                }
                actions
            }
            Event::Unchanged { waited } => {
                let mut actions = self.heard();
                let pause = if waited { Pause::None } else { Pause::Poll };
                actions.push(self.look(pause));
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
                actions.push(self.look(Pause::Poll));
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
                actions.push(self.look(Pause::Backoff(failures)));
                actions
            }
            _ => Vec::new(),
        }
    }

    /// The channel is release `id`.
    pub(super) fn seen(&mut self, id: Id, waiting: Option<Pending>) -> Vec<Action> {
        self.source = Source::Answering;
        let before = self.seen.replace(id.clone());
        let bad = self.bad.contains(&id);
        let stays = match &waiting {
            // Somebody wants it back, and not what the channel has.
            Some((target, Resume::Fetch)) if before.as_ref() != Some(target) && bad => true,
            Some((target, Resume::Fetch)) => *target == id,
            // Only a release that may be deployed is a better way out.
            Some(_) => bad,
            None => false,
        };
        if stays {
            return vec![self.look(Pause::None)];
        }
        let mut actions = Vec::new();
        if let Some((target, _)) = waiting {
            actions.push(Action::Report(Report::Abandoned(target)));
        }
        // A script that was begun for another release has left the host nowhere: then the
        // deployed release has to be deployed again.
        if self.deployed.as_ref() == Some(&id) && self.unfinished.is_none() {
            actions.push(Action::Report(Report::Current(id)));
            actions.extend(self.rest(Exit::Success));
            return actions;
        }
        if bad {
            actions.push(Action::Report(Report::Bad(id)));
            actions.extend(match self.unfinished.clone() {
                Some(unfinished) => self.begin_undo(unfinished),
                None => self.rest(Exit::Failure),
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
}
