//! The steps behind the script: switch, save, clean. Only `deployer` calls it.

use super::Deployer;
use crate::{
    error::AgentError, file, journal::JournalStep, machine::Id, record::Remembered, source::Source,
};

/// So many releases are remembered at least, whether their trees are kept or not.
const HISTORY: usize = 16;

impl<S: Source> Deployer<S> {
    /// Points `current` to the release: the check looks at the host as it will be.
    pub(super) fn switch(&self, id: &Id) -> Result<(), AgentError> {
        self.note(|entry| entry.step = JournalStep::Switch)?;
        self.directory.switch(id)
    }

    /// Records the release as the deployed one. From here on there is no way back but another
    /// deployment.
    pub(super) fn save(&self, id: &Id) -> Result<(), AgentError> {
        self.note(|entry| entry.step = JournalStep::Save)?;
        // Earlier versions recorded first and switched then; one may have ended in between.
        if self.directory.current().as_ref() != Some(id) {
            self.directory.switch(id)?;
        }
        let release = Remembered {
            since: Some((self.settings.clock)()),
            ..self.remembered(id)
        };
        file::replace(
            self.directory.state(),
            &release.record.to_json(),
            file::PUBLIC,
        )?;
        let most = self.settings.keep.unwrap_or(0).max(HISTORY);
        self.note(|entry| {
            entry.commit(release, most);
            entry.unfinished = None;
            entry.old = None;
            entry.wanted = None;
            entry.step = JournalStep::Clean;
        })
    }

    /// Removes what the deployed release does not need: trees beyond those that are to be kept,
    /// and layers.
    pub(super) fn clean(&self, id: &Id) -> Result<(), AgentError> {
        let (deployed, mut history, bad) = {
            let journal = self.journal();
            let entry = journal.entry();
            (
                entry.deployed.clone(),
                entry.history.clone(),
                entry.bad.clone(),
            )
        };
        if let Some(keep) = self.settings.keep {
            // What nobody will go back to takes no place.
            history.retain(|known| {
                let bad = bad.iter().any(|bad| bad.id == known.record.id);
                !bad && self.directory.has_tree(&known.record.id)
            });
            history.truncate(keep);
            let mut kept: Vec<_> = history.iter().map(|known| &known.record.id).collect();
            kept.push(id);
            self.directory.remove_trees_but(&kept)?;
        }
        if let Some(deployed) = &deployed {
            let layers = &deployed.record.layers;
            let needed: Vec<_> = layers.iter().map(|layer| &layer.digest).collect();
            self.cache.remove_but(&needed)?;
        }
        self.note(|entry| {
            entry.step = JournalStep::Idle;
            entry.release = None;
            entry.history = history;
        })
    }
}
