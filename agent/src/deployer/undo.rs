//! The way back to the deployed release, from one whose script was begun. Only `deployer` calls
//! it.

use super::{Deployer, Memory, scripts::Asked};
use crate::{
    directory::Request,
    error::AgentError,
    journal::{Bad, JournalStep},
    machine::Id,
    source::Source,
    stop::Stop,
};

impl<S: Source> Deployer<S> {
    /// Brings the host back from `failed` to `back`: `current` first, then the script with old
    /// and new exchanged. Where nothing was deployed before, `current` is removed and no script
    /// is run: there is nothing that it could switch to.
    pub(super) async fn undo(
        &self,
        memory: &mut Memory,
        failed: &Id,
        back: Option<&Id>,
        bad: bool,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        let mut release = self.remembered(failed);
        if release.record.release.is_none() {
            // A newer release, which was tried meanwhile, has taken its place in the journal.
            let journal = self.journal();
            let known = journal.entry().bad.iter().find(|bad| bad.id == *failed);
            release.record.release = known.and_then(|bad| bad.release.clone());
        }
        let why = memory.refusal.as_ref().filter(|(id, _)| id == failed);
        let condemned = bad.then(|| Bad {
            id: failed.clone(),
            release: release.record.release.clone(),
            when: (self.settings.clock)(),
            why: why.map_or_else(|| "it was refused".to_owned(), |(_, why)| why.clone()),
        });
        // The release is bad from here on: were that written last, a crash on the way would
        // have it deployed once more.
        self.note(|entry| {
            entry.step = JournalStep::Undo;
            entry.unfinished = Some(failed.clone());
            entry.release = Some(release);
            entry.wanted = None;
            if let Some(condemned) = condemned {
                entry.condemn(condemned);
            }
        })?;
        let run = match back {
            None => {
                self.directory.remove_current()?;
                None
            }
            Some(back) => {
                if !self.directory.has_tree(back) {
                    return Err(AgentError::NoWayBack { id: back.clone() });
                }
                self.directory.switch(back)?;
                let old = Some(failed).filter(|failed| *failed != back);
                let script = &self.settings.script;
                tracing::info!(release.id = %back, "running the script on the way back");
                let (run, result) = self
                    .ask(Asked::Script(script), &self.remembered(back), old, stop)
                    .await;
                if let Err(error) = result {
                    self.note(|entry| {
                        entry.hooks.insert("undo".to_owned(), run);
                    })?;
                    return Err(error);
                }
                Some(run)
            }
        };
        self.note(|entry| {
            entry.step = JournalStep::RolledBack;
            entry.unfinished = None;
            entry.old = None;
            if let Some(run) = run {
                entry.hooks.insert("undo".to_owned(), run);
            }
        })
    }

    /// Takes note that somebody wants back what was deployed before: it is known what, and the
    /// deployed release is not to come back by itself.
    pub(super) fn note_wanted(&self) -> Result<Id, AgentError> {
        let (before, deployed) = {
            let journal = self.journal();
            let entry = journal.entry();
            (entry.before().cloned(), entry.deployed.clone())
        };
        let wanted = match (before, &deployed) {
            // It counts as not deployed, and is deployed anew.
            (Some(_), Some(deployed)) if !self.directory.has_tree(&deployed.record.id) => {
                Err(AgentError::NoWayBack {
                    id: deployed.record.id.clone(),
                })
            }
            (Some(before), Some(_)) if self.directory.has_tree(&before.record.id) => {
                Ok(before.record.id)
            }
            (Some(before), Some(_)) => Err(AgentError::NoWayBack {
                id: before.record.id,
            }),
            _ => Err(AgentError::NothingBefore),
        };
        if let (Ok(id), Some(deployed)) = (&wanted, deployed) {
            self.note(|entry| {
                entry.wanted = Some(id.clone());
                entry.condemn(Bad {
                    id: deployed.record.id,
                    release: deployed.record.release,
                    when: (self.settings.clock)(),
                    why: "somebody went back from it by `deploy-agent rollback`".to_owned(),
                });
            })?;
        }
        self.directory.answer(Request::Rollback)?;
        wanted
    }
}
