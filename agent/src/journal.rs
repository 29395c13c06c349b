//! What the agent is doing, on disk: written before a step is begun, read after a crash.
//! Owned by `deployer`.

use std::path::PathBuf;

use deploy_spec::Digest;
use serde::{Deserialize, Serialize};

use crate::{error::AgentError, file, record::Record};

/// How far a deployment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JournalStep {
    /// Nothing is being done.
    #[default]
    Idle,
    /// Layers are coming.
    Fetch,
    /// A tree is being made.
    Stage,
    /// The script runs.
    Script,
    /// The script has succeeded; the release is being recorded.
    Save,
    /// `current` is being switched.
    Switch,
    /// Old things are being removed.
    Clean,
}

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// What is being done.
    pub(crate) step: JournalStep,
    /// To which release.
    #[serde(default)]
    pub(crate) release: Option<Record>,
    /// The release whose script was begun and is not known to have succeeded.
    #[serde(default)]
    pub(crate) unfinished: Option<Digest>,
    /// The release that is deployed, should the state file be lost.
    #[serde(default)]
    pub(crate) deployed: Option<Record>,
}

impl Entry {
    /// Returns the record of the release whose script has succeeded and which is not known to
    /// be recorded and switched to.
    pub(crate) fn uncommitted(&self) -> Option<&Record> {
        match self.step {
            JournalStep::Save | JournalStep::Switch => self.release.as_ref(),
            _ => None,
        }
    }
}

/// The journal file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    entry: Entry,
}

impl Journal {
    /// Returns the journal at `path` that has just been read.
    pub(crate) fn new(path: PathBuf, entry: Entry) -> Self {
        Self { path, entry }
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Changes the entry and puts it on stable storage. After an error the entry is what it
    /// was.
    pub(crate) fn write(&mut self, change: impl FnOnce(&mut Entry)) -> Result<(), AgentError> {
        let mut entry = self.entry.clone();
        change(&mut entry);
        if entry == self.entry && self.path.exists() {
            return Ok(());
        }
        let mut json =
            serde_json::to_vec_pretty(&entry).expect("texts and numbers are always JSON");
        json.push(b'\n');
        file::replace(&self.path, &json)?;
        self.entry = entry;
        Ok(())
    }
}
