//! Finds out what is deployed and what an earlier run left unfinished, whatever ended it.
//! The first work of every run; only `deployer` calls it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use super::{Deployer, chain};
use crate::{
    directory::Request,
    error::AgentError,
    file,
    journal::{Entry, Journal, JournalStep},
    machine::{Id, Recovered, Resume},
    record::Record,
    source::Source,
};

impl<S: Source> Deployer<S> {
    /// Reads state and journal, mends what can be mended, and removes what an earlier run left
    /// half done.
    pub(super) fn recover(&self) -> Result<Recovered, AgentError> {
        self.directory.remove_leftovers()?;
        let path = self.directory.journal();
        let found = read_json(&path)?;
        let lost = matches!(found, Found::Damaged(_));
        let mut entry: Entry = match found {
            Found::Nothing => Entry::default(),
            Found::Document(entry) => entry,
            Found::Damaged(error) => {
                self.set_aside(&path, &error)?;
                Entry::default()
            }
        };
        let state = self.directory.state().to_owned();
        let deployed: Option<Record> = match read_json(&state)? {
            Found::Nothing => None,
            Found::Document(record) => Some(record),
            Found::Damaged(error) => {
                self.set_aside(&state, &error)?;
                let record = self.recorded(&entry);
                if let Some(record) = &record {
                    tracing::warn!(release.id = %record.id, "state recovered");
                    file::replace(&state, &record.to_json(), file::PUBLIC)?;
                }
                record
            }
        };
        if let Some(record) = &deployed
            && entry
                .resume()
                .is_none_or(|(_, resume)| resume == Resume::Fetch)
            && entry
                .deployed
                .as_ref()
                .is_none_or(|known| known.record.id != record.id)
        {
            entry.deployed = Some(record.clone().into());
        }
        *self.journal() = Journal::new(path, entry.clone());
        if self.directory.is_asked(Request::Retry) {
            tracing::info!("what failed before may be tried again, as somebody asked for");
            entry.bad.clear();
            self.note(|entry| entry.bad.clear())?;
            self.directory.answer(Request::Retry)?;
        }
        let deployed = deployed
            .map(|record| record.id)
            .filter(|id| self.still_there(id));
        // On the way back the tree of what failed is not needed.
        let resume = entry
            .resume()
            .filter(|(id, resume)| *resume == Resume::Undo || self.still_there(id));
        let mut unfinished = entry.unfinished;
        if resume
            .as_ref()
            .is_none_or(|(_, resume)| *resume == Resume::Fetch)
        {
            let current = self.directory.current();
            if lost && unfinished.is_none() {
                // The journal would have told whose script was run last.
                unfinished = current.clone().filter(|id| Some(id) != deployed.as_ref());
            }
            match (&deployed, current) {
                (Some(id), current) if current.as_ref() != Some(id) => self.directory.switch(id)?,
                (None, Some(id)) if !self.directory.has_tree(&id) => {
                    self.directory.remove_current()?;
                }
                _ => {}
            }
        }
        if let Some(id) = &deployed
            && entry.step == JournalStep::Clean
            && let Err(error) = self.clean(id)
        {
            tracing::warn!("cannot clean up: {}", chain(&error));
        }
        Ok(Recovered {
            deployed,
            unfinished,
            resume,
            bad: entry.bad.into_iter().map(|bad| bad.id).collect(),
        })
    }

    /// Returns what was deployed before the state file was lost.
    fn recorded(&self, entry: &Entry) -> Option<Record> {
        let known = entry.deployed.as_ref().map(|known| known.record.clone());
        // In the middle of a deployment `current` may be at a release that is not recorded yet.
        if matches!(entry.resume(), Some((_, resume)) if resume != Resume::Fetch) {
            return known;
        }
        match (known, self.directory.current()) {
            (Some(record), current) if current.as_ref().is_none_or(|id| *id == record.id) => {
                Some(record)
            }
            (_, Some(id)) => Some(Record::bare(&id, self.settings.configuration.as_ref())),
            (record, None) => record,
        }
    }

    fn still_there(&self, id: &Id) -> bool {
        let there = self.directory.has_tree(id);
        if !there {
            tracing::warn!(release.id = %id, "the tree of the recorded release is gone; it counts as not deployed");
        }
        there
    }

    fn set_aside(&self, path: &Path, error: &serde_json::Error) -> Result<(), AgentError> {
        let time = (self.settings.clock)()
            .strftime("%Y%m%dT%H%M%SZ")
            .to_string();
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".corrupt-{time}"));
        let aside = PathBuf::from(aside);
        fs::rename(path, &aside).map_err(AgentError::io("set aside", path))?;
        tracing::error!(
            "`{}` cannot be read ({error}); it is kept as `{}`",
            path.display(),
            aside.display()
        );
        Ok(())
    }
}

enum Found<T> {
    Nothing,
    Document(T),
    Damaged(serde_json::Error),
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Found<T>, AgentError> {
    match fs::read(path) {
        Ok(bytes) => Ok(match serde_json::from_slice(&bytes) {
            Ok(document) => Found::Document(document),
            Err(error) => Found::Damaged(error),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(AgentError::io("read", path)(error)),
    }
}
