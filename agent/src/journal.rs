//! What the agent is doing, on disk: written before a step is begun, read after a crash.
//! Owned by `deployer`.

use std::{collections::BTreeMap, path::PathBuf};

use deploy_spec::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    admission::Accepted,
    error::AgentError,
    file,
    machine::Resume,
    record::{Record, Remembered},
};

/// So many releases are remembered as bad; the oldest is forgotten for the next.
const BAD_MAX: usize = 16;

/// How far a deployment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum JournalStep {
    /// Nothing is being done.
    #[default]
    Idle,
    /// Layers are coming.
    Fetch,
    /// A tree is being made.
    Stage,
    /// The preparing script runs.
    Prepare,
    /// The script runs.
    Script,
    /// The script has succeeded; `current` is being switched.
    Switch,
    /// The check runs.
    Check,
    /// The check has passed; the release is being recorded.
    Save,
    /// Old things are being removed.
    Clean,
    /// The host goes back to the deployed release.
    Undo,
    /// It has gone back, and nothing is being done.
    RolledBack,
}

/// The document. Fields that this version does not know are passed over; those that an earlier
/// one did not write are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// What is being done.
    pub(crate) step: JournalStep,
    /// To which release.
    #[serde(default)]
    pub(crate) release: Option<Remembered>,
    /// What its script found.
    #[serde(default)]
    pub(crate) old: Option<Digest>,
    /// The release whose script was begun and which was neither recorded nor undone.
    #[serde(default)]
    pub(crate) unfinished: Option<Digest>,
    /// The release that is deployed, should the state file be lost.
    #[serde(default)]
    pub(crate) deployed: Option<Remembered>,
    /// What was deployed before it, the last one first.
    #[serde(default)]
    pub(crate) history: Vec<Remembered>,
    /// What somebody wants back and what is not deployed yet.
    #[serde(default)]
    pub(crate) wanted: Option<Digest>,
    /// What is not deployed again, the last one first.
    #[serde(default)]
    pub(crate) bad: Vec<Bad>,
    /// What was accepted, where signatures are asked for: nothing older is deployed.
    #[serde(default)]
    pub(crate) accepted: Option<Accepted>,
    /// The release that the channel has and that is not deployed for want of a signature.
    #[serde(default)]
    pub(crate) refused: Option<Refused>,
    /// The last run of each script: `prepare`, `script`, `check`, and `undo`, which is the
    /// script on the way back.
    #[serde(default)]
    pub(crate) hooks: BTreeMap<String, HookRun>,
}

/// A release that is not deployed again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bad {
    /// Which.
    pub(crate) id: Digest,
    /// Its number, `v7`, where it has one.
    #[serde(default)]
    pub(crate) release: Option<String>,
    /// When that was found.
    pub(crate) when: Timestamp,
    /// What was wrong with it, in words.
    pub(crate) why: String,
}

impl Bad {
    /// Returns `v7 (sha256:…)`.
    pub(crate) fn name(&self) -> String {
        match &self.release {
            Some(release) => format!("{release} ({})", self.id),
            None => self.id.to_string(),
        }
    }
}

/// A release that nobody vouches for who may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// Which.
    pub(crate) id: Digest,
    /// Its number, `v7`, where it has one.
    #[serde(default)]
    pub(crate) release: Option<String>,
    /// Since when, for this reason.
    pub(crate) since: Timestamp,
    /// What is lacking, in words.
    pub(crate) why: String,
}

impl Refused {
    /// Returns `v7 (sha256:…)`.
    pub(crate) fn name(&self) -> String {
        match &self.release {
            Some(release) => format!("{release} ({})", self.id),
            None => self.id.to_string(),
        }
    }
}

/// One run of an operator's script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HookRun {
    /// The release that it was told to switch to, or asked about.
    pub(crate) release: Digest,
    /// When it began.
    pub(crate) began: Timestamp,
    /// When it ended.
    pub(crate) ended: Timestamp,
    /// Its exit status, where it had one.
    #[serde(default)]
    pub(crate) status: Option<i32>,
    /// How it ended, in words.
    pub(crate) outcome: String,
    /// The last lines that it printed.
    #[serde(default)]
    pub(crate) output: Vec<String>,
}

impl Entry {
    /// Returns what a run that ended in this step has left to be gone on with: behind the
    /// script, which is not run again, or on the way back; else what somebody wants.
    pub(crate) fn resume(&self) -> Option<(Digest, Resume)> {
        self.on_the_way()
            .or_else(|| Some((self.wanted.clone()?, Resume::Fetch)))
    }

    fn on_the_way(&self) -> Option<(Digest, Resume)> {
        let resume = match self.step {
            JournalStep::Switch | JournalStep::Check => Resume::Switch,
            JournalStep::Save => Resume::Save,
            JournalStep::Undo => {
                let failed = self.unfinished.clone()?;
                return Some((failed, Resume::Undo));
            }
            _ => return None,
        };
        let release = self.release.as_ref()?;
        Some((release.record.id.clone(), resume))
    }

    /// Returns all that is known of the release that is deployed by its record.
    pub(crate) fn known(&self, record: Record) -> Remembered {
        let known = self.deployed.clone();
        let known = known.filter(|known| known.record.id == record.id);
        known.unwrap_or_else(|| record.into())
    }

    /// Puts a release on the bad-list, with its first reason where it is there already.
    pub(crate) fn condemn(&mut self, bad: Bad) {
        if self.bad.iter().any(|known| known.id == bad.id) {
            return;
        }
        self.bad.insert(0, bad);
        self.bad.truncate(BAD_MAX);
    }

    /// Returns the release that was deployed before, and was not left for being bad.
    pub(crate) fn before(&self) -> Option<&Remembered> {
        let bad = |known: &Remembered| self.bad.iter().any(|bad| bad.id == known.record.id);
        self.history.iter().find(|known| !bad(known))
    }

    /// Notes that `release` is deployed from now on; of what was deployed before, `most` are
    /// remembered.
    pub(crate) fn commit(&mut self, release: Remembered, most: usize) {
        let id = release.record.id.clone();
        let before = self.deployed.replace(release);
        let before = before.filter(|before| before.record.id != id);
        self.history.retain(|known| {
            known.record.id != id
                && before
                    .as_ref()
                    .is_none_or(|before| before.record.id != known.record.id)
        });
        if let Some(before) = before {
            self.history.insert(0, before);
        }
        self.history.truncate(most);
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
        file::replace(&self.path, &json, file::PRIVATE)?;
        self.entry = entry;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(name: &str) -> Remembered {
        Remembered::from(Record::bare(&Digest::sha256(name.as_bytes()), "project"))
    }

    #[test]
    fn journals_of_other_versions_are_read() {
        let id = Digest::sha256(b"a");
        // As the first version wrote it.
        let old = format!(
            r#"{{"step":"save","release":{{"Name":"project","Hash":"{0}","Id":"{id}","Layers":[]}},"unfinished":"{id}","deployed":null}}"#,
            id.hex()
        );
        let entry: Entry = serde_json::from_str(&old).unwrap();
        assert_eq!(entry.resume(), Some((id.clone(), Resume::Save)));
        assert_eq!(entry.release, Some(remembered("a")));
        assert!(entry.bad.is_empty() && entry.history.is_empty() && entry.hooks.is_empty());
        let newer = r#"{"step":"idle","tomorrow":{"x":1},"bad":[]}"#;
        assert_eq!(
            serde_json::from_str::<Entry>(newer).unwrap(),
            Entry::default()
        );
    }

    #[test]
    fn everything_survives_a_round_trip() {
        let run = HookRun {
            release: Digest::sha256(b"b"),
            began: Timestamp::UNIX_EPOCH,
            ended: Timestamp::UNIX_EPOCH,
            status: Some(7),
            outcome: "exited with status 7".to_owned(),
            output: vec!["\u{1b}[1m \"x\"\\ \u{fffd}\t".to_owned()],
        };
        let mut entry = Entry {
            step: JournalStep::RolledBack,
            release: Some(Remembered {
                environment: vec![("A".to_owned(), "b\"".to_owned())],
                image: serde_json::from_str(r#"{"Cmd":["a"],"Other":{"b":[]}}"#).unwrap(),
                since: Some(Timestamp::UNIX_EPOCH),
                ..remembered("b")
            }),
            old: Some(Digest::sha256(b"a")),
            deployed: Some(remembered("a")),
            history: vec![remembered("z")],
            hooks: BTreeMap::from([("script".to_owned(), run)]),
            ..Entry::default()
        };
        entry.condemn(Bad {
            id: Digest::sha256(b"b"),
            release: Some("v2".to_owned()),
            when: Timestamp::UNIX_EPOCH,
            why: "it was".to_owned(),
        });
        entry.accepted = Some(Accepted {
            repository: "acme/configs/project".parse().unwrap(),
            id: Digest::sha256(b"b"),
            number: deploy_spec::ReleaseNumber::new(7),
            time: Some(Timestamp::UNIX_EPOCH),
        });
        entry.refused = Some(Refused {
            id: Digest::sha256(b"c"),
            release: Some("v8".to_owned()),
            since: Timestamp::UNIX_EPOCH,
            why: "it has no signature".to_owned(),
        });
        let json = serde_json::to_vec_pretty(&entry).unwrap();
        assert_eq!(serde_json::from_slice::<Entry>(&json).unwrap(), entry);
    }

    #[test]
    fn bad_list_and_history_are_bounded_and_keep_the_latest() {
        let mut entry = Entry::default();
        for number in 0..20 {
            let name = number.to_string();
            for why in ["first", "second"] {
                entry.condemn(Bad {
                    id: Digest::sha256(name.as_bytes()),
                    release: None,
                    when: Timestamp::UNIX_EPOCH,
                    why: why.to_owned(),
                });
            }
            entry.commit(remembered(&name), 3);
        }
        assert_eq!(entry.bad.len(), BAD_MAX);
        assert_eq!(entry.bad[0].id, Digest::sha256(b"19"));
        assert!(entry.bad.iter().all(|bad| bad.why == "first"));
        assert_eq!(entry.history, ["18", "17", "16"].map(remembered));
        // Going back and forth leaves each of them once.
        entry.commit(remembered("17"), 3);
        entry.commit(remembered("17"), 3);
        assert_eq!(entry.deployed, Some(remembered("17")));
        assert_eq!(entry.history, ["19", "18", "16"].map(remembered));
    }
}
