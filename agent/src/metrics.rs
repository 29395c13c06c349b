//! What the agent counts, in the text format of Prometheus. Written by `runner`; read by whoever
//! serves it or writes it to a file.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use deploy_spec::ConfigurationName;
use jiff::Timestamp;

use crate::{
    error::AgentError,
    file::{self, PUBLIC},
    machine::{Id, Report},
};

/// What all configurations of a process have come to. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<String, Counts>>>);

/// What one configuration has come to.
#[derive(Clone, Debug, Default)]
struct Counts {
    channel: String,
    /// Nothing before the first look.
    source_up: Option<bool>,
    looked: Option<Timestamp>,
    deployed: Option<Id>,
    since: Option<Timestamp>,
    deployments: u64,
    failures: u64,
    rollbacks: u64,
    /// The channel's release is one that failed before.
    waiting: bool,
    refusals: u64,
    /// The channel's release has no signature that counts.
    unsigned: bool,
}

impl Metrics {
    /// Returns what counts for one configuration, which is in the text from now on.
    pub fn of(&self, configuration: &ConfigurationName, channel: &str) -> Counter {
        let name = configuration.to_string();
        let counts = Counts {
            channel: channel.to_owned(),
            ..Counts::default()
        };
        self.all().insert(name.clone(), counts);
        Counter {
            metrics: self.clone(),
            name,
        }
    }

    /// Replaces a file by the text, as the text file collector of node_exporter wants it.
    ///
    /// # Errors
    /// [`AgentError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), AgentError> {
        file::replace(path, self.to_string().as_bytes(), PUBLIC)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Counts>> {
        // Whoever panicked left whole numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts for one configuration. The default counts for nobody.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    metrics: Metrics,
    name: String,
}

impl Counter {
    fn change(&self, change: impl FnOnce(&mut Counts)) {
        if let Some(counts) = self.metrics.all().get_mut(&self.name) {
            change(counts);
        }
    }

    /// The source was looked at.
    pub(crate) fn looked(&self, answered: bool) {
        self.change(|counts| {
            counts.source_up = Some(answered);
            if answered {
                counts.looked = Some(Timestamp::now());
            }
        });
    }

    /// A step of a deployment failed.
    pub(crate) fn failed(&self) {
        self.change(|counts| counts.failures += 1);
    }

    /// A release has no signature that counts.
    pub(crate) fn refused(&self) {
        self.change(|counts| {
            counts.refusals += 1;
            counts.unsigned = true;
        });
    }

    /// A person was told this.
    pub(crate) fn reported(&self, report: &Report) {
        self.change(|counts| {
            // Another release, or the same one with a signature.
            counts.unsigned &= !matches!(
                report,
                Report::Current(_) | Report::Found(_) | Report::Deployed(_) | Report::Abandoned(_)
            );
        });
        self.change(|counts| match report {
            Report::Current(id) => {
                counts.deployed = Some(id.clone());
                counts.waiting = false;
            }
            Report::Deployed(id) => {
                counts.deployed = Some(id.clone());
                counts.since = Some(Timestamp::now());
                counts.deployments += 1;
                counts.waiting = false;
            }
            Report::RolledBack { back, .. } => {
                counts.deployed.clone_from(back);
                counts.rollbacks += 1;
            }
            Report::Bad(_) => counts.waiting = true,
            Report::Found(_) => counts.waiting = false,
            _ => {}
        });
    }
}

type Value = fn(&Counts) -> Option<f64>;

/// Name, kind, meaning, value.
const FAMILIES: [(&str, &str, &str, Value); 9] = [
    (
        "source_up",
        "gauge",
        "Whether the last look at the channel was answered.",
        |counts| counts.source_up.map(|up| u8::from(up).into()),
    ),
    (
        "last_look_timestamp_seconds",
        "gauge",
        "When the channel was last looked at with success.",
        |counts| counts.looked.map(seconds),
    ),
    (
        "deployed_timestamp_seconds",
        "gauge",
        "When this process last deployed a release.",
        |counts| counts.since.map(seconds),
    ),
    (
        "deployments_total",
        "counter",
        "Releases that were deployed.",
        |counts| Some(counts.deployments as f64),
    ),
    (
        "failures_total",
        "counter",
        "Steps of deployments that failed, each attempt.",
        |counts| Some(counts.failures as f64),
    ),
    (
        "rollbacks_total",
        "counter",
        "Releases that the host went back from.",
        |counts| Some(counts.rollbacks as f64),
    ),
    (
        "waiting_for_newer_release",
        "gauge",
        "Whether the channel's release failed before and is not tried again.",
        |counts| Some(u8::from(counts.waiting).into()),
    ),
    (
        "signature_refusals_total",
        "counter",
        "Releases that no signature let in, each once for every reason.",
        |counts| Some(counts.refusals as f64),
    ),
    (
        "waiting_for_signature",
        "gauge",
        "Whether the channel's release has no signature that counts.",
        |counts| Some(u8::from(counts.unsigned).into()),
    ),
];

impl fmt::Display for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut family = |name: &str, kind: &str, help: &str, lines: &str| {
            writeln!(formatter, "# HELP deploy_agent_{name} {help}")?;
            writeln!(
                formatter,
                "# TYPE deploy_agent_{name} {kind}\n{}",
                lines.trim_end()
            )
        };
        let version = env!("CARGO_PKG_VERSION");
        let info = format!("deploy_agent_info{{version=\"{version}\"}} 1");
        family("info", "gauge", "Which agent this is.", &info)?;
        let all = self.all();
        for (name, kind, help, value) in FAMILIES {
            let mut lines = String::new();
            for (configuration, counts) in &*all {
                if let Some(value) = value(counts) {
                    let labels = labels(configuration, counts);
                    writeln!(lines, "deploy_agent_{name}{{{labels}}} {value}")?;
                }
            }
            if !lines.is_empty() {
                family(name, kind, help, &lines)?;
            }
        }
        let mut lines = String::new();
        for (configuration, counts) in &*all {
            if let Some(id) = &counts.deployed {
                let labels = labels(configuration, counts);
                writeln!(
                    lines,
                    "deploy_agent_deployed_info{{{labels},id=\"{id}\"}} 1"
                )?;
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        family("deployed_info", "gauge", "What is deployed.", &lines)
    }
}

/// Names, channels and digests have no character in them that would have to be escaped.
fn labels(configuration: &str, counts: &Counts) -> String {
    let channel = &counts.channel;
    format!("configuration=\"{configuration}\",channel=\"{channel}\"")
}

fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use deploy_spec::Digest;

    use super::*;

    #[test]
    fn every_configuration_has_its_own_numbers() {
        let metrics = Metrics::default();
        let name = |text: &str| text.parse::<ConfigurationName>().unwrap();
        let one = metrics.of(&name("one"), "latest");
        let two = metrics.of(&name("two"), "stable");
        let (first, second) = (Digest::sha256(b"first"), Digest::sha256(b"second"));
        one.looked(true);
        one.reported(&Report::Deployed(first.clone()));
        two.looked(false);
        two.failed();
        two.failed();
        two.reported(&Report::RolledBack {
            failed: second.clone(),
            back: Some(first.clone()),
        });
        two.reported(&Report::Bad(second));
        one.refused();
        // Nobody listens.
        Counter::default().failed();
        let text = metrics.to_string();
        let labels =
            |name: &str, channel: &str| format!("configuration=\"{name}\",channel=\"{channel}\"");
        let (one, two) = (labels("one", "latest"), labels("two", "stable"));
        for line in [
            "# TYPE deploy_agent_deployments_total counter".to_owned(),
            format!("deploy_agent_source_up{{{one}}} 1"),
            format!("deploy_agent_source_up{{{two}}} 0"),
            format!("deploy_agent_deployments_total{{{one}}} 1"),
            format!("deploy_agent_deployments_total{{{two}}} 0"),
            format!("deploy_agent_failures_total{{{two}}} 2"),
            format!("deploy_agent_rollbacks_total{{{two}}} 1"),
            format!("deploy_agent_waiting_for_newer_release{{{two}}} 1"),
            format!("deploy_agent_signature_refusals_total{{{one}}} 1"),
            format!("deploy_agent_waiting_for_signature{{{one}}} 1"),
            format!("deploy_agent_waiting_for_signature{{{two}}} 0"),
            format!("deploy_agent_deployed_info{{{one},id=\"{first}\"}} 1"),
            format!("deploy_agent_deployed_info{{{two},id=\"{first}\"}} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains(&format!("last_look_timestamp_seconds{{{two}")));
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("agent.prom");
        metrics.write(&file).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), text);
    }
}
