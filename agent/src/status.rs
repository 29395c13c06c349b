//! What an agent has done, is doing, and will not do: read from its directory beside it, without
//! its lock. Called by `main`.

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use deploy_spec::{Digest, signature::Purpose};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    admission::Vouched,
    directory::{Place, Request},
    error::AgentError,
    journal::{Bad, Entry, HookRun, JournalStep, Refused},
    record::{Record, Remembered},
};

/// What is known of an agent's directory. Displays as lines for people; serialises as JSON for
/// scripts, with every field always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether an agent works there.
    running: bool,
    /// Its process, where the lock says so.
    pid: Option<u32>,
    /// What is deployed.
    deployed: Option<Known>,
    /// What is being done.
    step: JournalStep,
    /// With which release: `deployed` or another one.
    release: Option<Known>,
    /// The release whose script was begun and which was neither recorded nor undone.
    unfinished: Option<Digest>,
    /// What somebody has asked for and no agent has seen to yet.
    requests: Vec<Pending>,
    /// The release that somebody wants back, until it is deployed.
    wanted: Option<Digest>,
    /// What the channel has and what is not deployed for want of a signature.
    refused: Option<Refused>,
    /// What was deployed before, the last one first.
    history: Vec<Known>,
    /// What is not deployed again, the last one first.
    bad: Vec<Bad>,
    /// The last run of each script.
    scripts: BTreeMap<String, HookRun>,
}

/// A request that is not seen to yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Pending {
    /// The verb by which it was made.
    request: Request,
    /// When; nothing where the file system does not tell.
    since: Option<Timestamp>,
}

/// A release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Known {
    configuration: String,
    pub(crate) id: Digest,
    /// Its number, `v7`, where it has one.
    release: Option<String>,
    channel: Option<String>,
    /// When it was deployed.
    since: Option<Timestamp>,
    /// Who vouched for it, where that was asked.
    signed: Option<KnownSigner>,
}

/// Who vouched for a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct KnownSigner {
    principals: String,
    fingerprint: String,
    purpose: Purpose,
    time: Timestamp,
}

impl From<Vouched> for KnownSigner {
    fn from(vouched: Vouched) -> Self {
        let Vouched {
            principals,
            fingerprint,
            purpose,
            time,
        } = vouched;
        Self {
            principals,
            fingerprint,
            purpose,
            time,
        }
    }
}

impl fmt::Display for KnownSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (principals, fingerprint) = (printable(&self.principals), &self.fingerprint);
        let (purpose, time) = (self.purpose, self.time);
        write!(
            formatter,
            "by {principals} ({fingerprint}) as a {purpose} at {time:.0}"
        )
    }
}

impl From<Remembered> for Known {
    fn from(Remembered { record, since, .. }: Remembered) -> Self {
        Self {
            configuration: record.name,
            id: record.id,
            release: record.release,
            channel: record.channel,
            signed: record.signed.map(KnownSigner::from),
            since,
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, id) = (&self.configuration, &self.id);
        match &self.release {
            Some(release) => write!(formatter, "{name} {release} ({id})"),
            None => write!(formatter, "{name} ({id})"),
        }
    }
}

impl Status {
    /// Returns what is known of the directory. Without `state` the state is in `state.json`
    /// within.
    ///
    /// # Errors
    /// [`AgentError::NoAgent`] where none ever worked there; [`AgentError::Damaged`] where a
    /// document is none: the agent sets it aside when it is started.
    pub fn load(root: &Path, state: Option<&Path>) -> Result<Self, AgentError> {
        let place = Place::find(root, state)?;
        let agent = place.agent()?;
        // In the order in which they are written: a request may be seen to and a release deployed
        // in between.
        let requests = pending(&place)?;
        let record: Option<Record> = load(&place.state)?;
        let entry: Entry = load(&place.journal)?.unwrap_or_default();
        let deployed = record.map(|record| entry.known(record).into());
        Ok(Self {
            running: agent.is_some(),
            pid: agent.flatten(),
            deployed,
            step: entry.step,
            release: entry.release.map(Known::from),
            unfinished: entry.unfinished,
            requests,
            wanted: entry.wanted,
            refused: entry.refused,
            history: entry.history.into_iter().map(Known::from).collect(),
            bad: entry.bad,
            scripts: entry.hooks,
        })
    }

    /// Returns the configuration that is deployed.
    pub fn configuration(&self) -> Option<&str> {
        self.deployed.as_ref().map(|known| &*known.configuration)
    }

    fn doing(&self) -> String {
        let release = self.release.as_ref();
        doing(self.step, release.map(ToString::to_string))
    }
}

fn pending(place: &Place) -> Result<Vec<Pending>, AgentError> {
    let mut found = Vec::new();
    for request in [Request::Retry, Request::Rollback] {
        let path = place.request(request);
        match fs::metadata(&path) {
            Ok(file) => {
                let since = file.modified().ok();
                let since = since.and_then(|time| Timestamp::try_from(time).ok());
                found.push(Pending { request, since });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(AgentError::io("read", path)(error)),
        }
    }
    Ok(found)
}

/// Returns in words what an agent does, or did when it was ended.
pub(crate) fn doing(step: JournalStep, release: Option<String>) -> String {
    let release = release.unwrap_or_else(|| "a release".to_owned());
    let step = match step {
        JournalStep::Idle => return "nothing is being done".to_owned(),
        JournalStep::RolledBack => return format!("rolled back from {release}"),
        JournalStep::Fetch => "fetch",
        JournalStep::Stage => "stage",
        JournalStep::Prepare => "prepare",
        JournalStep::Script => "script",
        JournalStep::Switch => "switch",
        JournalStep::Check => "check",
        JournalStep::Save => "save",
        JournalStep::Clean => "clean",
        JournalStep::Undo => return format!("going back from {release}"),
    };
    format!("deploying {release}: {step}")
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (
            &self.deployed,
            self.deployed.as_ref().and_then(|known| known.since),
        ) {
            (Some(known), Some(since)) => {
                writeln!(formatter, "deployed: {known} since {since:.0}")?
            }
            (Some(known), None) => writeln!(formatter, "deployed: {known}")?,
            (None, _) => writeln!(formatter, "deployed: nothing")?,
        }
        let signed = self.deployed.as_ref();
        if let Some(signed) = signed.and_then(|known| known.signed.as_ref()) {
            writeln!(formatter, "signed: {signed}")?;
        }
        match (self.running, self.pid) {
            (true, Some(pid)) => writeln!(formatter, "agent: runs (pid {pid})")?,
            (true, None) => writeln!(formatter, "agent: runs")?,
            (false, _) => writeln!(formatter, "agent: does not run")?,
        }
        writeln!(formatter, "journal: {}", self.doing())?;
        if let Some(id) = &self.unfinished {
            writeln!(formatter, "unfinished: the script was begun for {id}")?;
        }
        for Pending { request, since } in &self.requests {
            write!(formatter, "asked for: {}", request.name())?;
            if let Some(since) = since {
                write!(formatter, " at {since:.0}")?;
            }
            writeln!(formatter, ", not seen to yet")?;
        }
        if !self.requests.is_empty() && !self.running {
            writeln!(formatter, "hint: no agent runs; the next one sees to it")?;
        }
        if let Some(id) = &self.wanted {
            writeln!(formatter, "wanted back: {id}")?;
        }
        if let Some(refused) = &self.refused {
            writeln!(
                formatter,
                "refused: {} since {:.0}: {}",
                refused.name(),
                refused.since,
                printable(&refused.why)
            )?;
        }
        for bad in &self.bad {
            writeln!(
                formatter,
                "bad: {} since {:.0}: {}",
                bad.name(),
                bad.when,
                printable(&bad.why)
            )?;
        }
        if !self.bad.is_empty() {
            writeln!(
                formatter,
                "hint: a newer release is deployed; `deploy-agent retry` tries these again"
            )?;
        }
        for (name, run) in self.scripts.iter().filter(|(_, run)| run.status != Some(0)) {
            let name = if name == "undo" {
                "script on the way back"
            } else {
                name
            };
            writeln!(
                formatter,
                "{name}: {} at {:.0}, for {}",
                printable(&run.outcome),
                run.ended,
                run.release
            )?;
            for line in &run.output {
                writeln!(formatter, "  {}", printable(line))?;
            }
        }
        Ok(())
    }
}

/// Returns a text without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    let escape = |letter: char| match letter {
        '\t' => vec![letter],
        letter if letter.is_control() => letter.escape_default().collect(),
        letter => vec![letter],
    };
    text.chars().flat_map(escape).collect()
}

/// Reads a document of the agent; none where there is no file.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AgentError> {
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| AgentError::Damaged {
                    path: path.to_owned(),
                    source,
                })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AgentError::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;

    #[test]
    fn everything_is_said_and_nothing_is_obeyed() {
        let place = tempfile::tempdir().unwrap();
        let error = Status::load(place.path(), None).unwrap_err().to_string();
        assert!(error.contains("no agent has worked in"), "{error}");
        let directory = Directory::open(place.path(), None).unwrap();
        let status = Status::load(place.path(), None).unwrap();
        let pid = std::process::id();
        let expected =
            format!("deployed: nothing\nagent: runs (pid {pid})\njournal: nothing is being done\n");
        assert_eq!(status.to_string(), expected);
        drop(directory);

        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        let record = Record::bare(&a, "project");
        fs::write(place.path().join("state.json"), record.to_json()).unwrap();
        let time: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let run = HookRun {
            release: b.clone(),
            began: time,
            ended: time,
            status: Some(7),
            outcome: "exited with status 7".to_owned(),
            output: vec!["\u{1b}[2Jred".to_owned(), "a\tb".to_owned()],
        };
        let fine = HookRun {
            status: Some(0),
            ..run.clone()
        };
        let entry = Entry {
            step: JournalStep::RolledBack,
            release: Some(Remembered::from(Record {
                release: Some("v2".to_owned()),
                ..Record::bare(&b, "project")
            })),
            deployed: Some(Remembered {
                since: Some(time),
                ..record.into()
            }),
            bad: vec![Bad {
                id: b.clone(),
                release: Some("v2".to_owned()),
                when: time,
                why: "it was".to_owned(),
            }],
            hooks: [("check", run), ("script", fine)]
                .map(|(name, run)| (name.to_owned(), run))
                .into(),
            ..Entry::default()
        };
        let json = serde_json::to_vec(&entry).unwrap();
        fs::write(place.path().join("journal.json"), json).unwrap();
        let status = Status::load(place.path(), None).unwrap();
        let expected = format!(
            "deployed: project ({a}) since 2026-01-02T03:04:05Z
agent: does not run
journal: rolled back from project v2 ({b})
bad: v2 ({b}) since 2026-01-02T03:04:05Z: it was
hint: a newer release is deployed; `deploy-agent retry` tries these again
check: exited with status 7 at 2026-01-02T03:04:05Z, for {b}
  \\u{{1b}}[2Jred
  a\tb
"
        );
        assert_eq!(status.to_string(), expected);
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["deployed"]["id"], a.to_string());
        assert_eq!(json["running"], false);
        assert_eq!(json["requests"], serde_json::json!([]));
        assert_eq!(json["wanted"], serde_json::Value::Null);
        assert_eq!(json["bad"][0]["why"], "it was");
        assert_eq!(json["scripts"]["check"]["output"][1], "a\tb");

        let asked = |name: &str| {
            let file = fs::File::create(place.path().join(name)).unwrap();
            file.set_modified(time.into()).unwrap();
        };
        asked("rollback");
        asked("retry");
        let wanting = Entry {
            wanted: Some(b.clone()),
            ..Entry::default()
        };
        let json = serde_json::to_vec(&wanting).unwrap();
        fs::write(place.path().join("journal.json"), json).unwrap();
        let status = Status::load(place.path(), None).unwrap();
        let said = format!(
            "asked for: retry at 2026-01-02T03:04:05Z, not seen to yet
asked for: rollback at 2026-01-02T03:04:05Z, not seen to yet
hint: no agent runs; the next one sees to it
wanted back: {b}
"
        );
        assert!(status.to_string().ends_with(&said), "{status}");
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["requests"][1]["request"], "rollback");
        assert_eq!(json["requests"][1]["since"], time.to_string());
        assert_eq!(json["wanted"], b.to_string());
        let directory = Directory::open(place.path(), None).unwrap();
        let status = Status::load(place.path(), None).unwrap().to_string();
        assert!(status.contains(", not seen to yet\nwanted"));
        drop(directory);

        fs::write(place.path().join("journal.json"), "{ no json").unwrap();
        let error = Status::load(place.path(), None).unwrap_err();
        assert!(matches!(error, AgentError::Damaged { .. }), "{error}");
    }
}
