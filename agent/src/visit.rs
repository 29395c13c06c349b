//! A verb's turn in an agent's directory, whether an agent runs there or not: nothing else is done
//! meanwhile, and what the documents say holds. Called by the verbs that look at trees.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use deploy_spec::Digest;

use crate::{
    directory::{Directory, Lock, Place, Taken},
    error::AgentError,
    journal::{Entry, JournalStep},
    record::{Record, Remembered},
    status::{doing, load},
};

/// How often it asks.
const TICK: Duration = Duration::from_millis(20);

/// Where an agent works, and how long it may take until a step of its ends.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// The agent's directory.
    pub directory: &'a Path,
    /// Its state file, where that is elsewhere.
    pub state: Option<&'a Path>,
    /// How long a verb waits for its turn; the agent takes one for each step.
    pub wait: Duration,
}

/// An agent's directory in which nobody else does anything until this is dropped.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) directory: Directory,
    pub(crate) entry: Entry,
    /// What the state file says is deployed, with what the journal knows of it.
    pub(crate) deployed: Option<Remembered>,
    _turn: Lock,
}

impl Visit {
    /// Waits for a turn, and reads the documents in it.
    ///
    /// # Errors
    /// [`AgentError::NoAgent`] where none ever worked there; [`AgentError::Busy`] where the turn is
    /// somebody else's for too long; [`AgentError::Damaged`].
    pub(crate) fn enter(host: &Host<'_>) -> Result<Self, AgentError> {
        let place = Place::find(host.directory, host.state)?;
        let directory = Directory::beside(&place);
        let begun = Instant::now();
        let turn = loop {
            match directory.turn()? {
                Ok(turn) => break turn,
                Err(Taken(holder)) if begun.elapsed() >= host.wait => {
                    let entry: Entry = load(&place.journal)?.unwrap_or_default();
                    return Err(AgentError::Busy {
                        directory: place.root,
                        holder,
                        doing: words(&entry),
                    });
                }
                Err(_) => sleep(TICK),
            }
        };
        let record: Option<Record> = load(&place.state)?;
        let entry: Entry = load(&place.journal)?.unwrap_or_default();
        Ok(Self {
            deployed: record.map(|record| entry.known(record)),
            directory,
            entry,
            _turn: turn,
        })
    }

    /// Returns what is deployed.
    ///
    /// # Errors
    /// [`AgentError::NothingDeployed`].
    pub(crate) fn deployed(&self) -> Result<&Remembered, AgentError> {
        let deployed = self.deployed.as_ref();
        let deployed = deployed.filter(|known| self.directory.has_tree(&known.record.id));
        deployed.ok_or_else(|| AgentError::NothingDeployed {
            directory: self.directory.path().to_owned(),
        })
    }

    /// Returns the release that a deployment is at, or was when it was ended; it is gone on with.
    pub(crate) fn under_way(&self) -> Option<&Digest> {
        match self.entry.step {
            JournalStep::Idle | JournalStep::RolledBack | JournalStep::Clean => None,
            _ => self.entry.release.as_ref().map(|known| &known.record.id),
        }
    }

    /// Refuses to go on where the host is between two releases.
    ///
    /// # Errors
    /// [`AgentError::Unfinished`].
    pub(crate) fn refuse_between(&self) -> Result<(), AgentError> {
        match self.entry.step {
            JournalStep::Script
            | JournalStep::Switch
            | JournalStep::Check
            | JournalStep::Save
            | JournalStep::Undo => Err(AgentError::Unfinished {
                directory: self.directory.path().to_owned(),
                doing: words(&self.entry),
            }),
            _ => Ok(()),
        }
    }
}

fn words(entry: &Entry) -> String {
    doing(entry.step, entry.release.as_ref().map(Remembered::name))
}
