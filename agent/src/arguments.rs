//! What a person may type. Parsed by `main`.

use std::{ffi::OsString, num::NonZeroU64, path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::Parser;
use deploy_spec::{
    Channel, ConfigurationName, Fingerprint, Prefix,
    arguments::{Given, bytes},
};

use crate::{
    exposition::Place,
    origin::{Mirror, Origin},
    unpacking::Unpacking,
};

/// Follows one configuration of an OCI registry: fetches its layers, unpacks them into a new
/// directory, runs a script that switches the host to it.
///
/// A verb may stand first: run does what is done without one, once is -once; plan says what would
/// change, status what is deployed, verify whether its tree is what was deployed; retry has tried
/// again what failed, rollback goes back to the release before, and prune removes what is needed no
/// more (each of them says more with --help).
///
/// Every flag may be written with one dash or two: -name x, --name x, -name=x. Exit status:
/// 0 done or told to stop, 1 failed, 2 wrong usage.
#[derive(Clone, Debug, Parser)]
#[command(name = "deploy-agent", version)]
pub(crate) struct Arguments {
    /// Registry address: host:port, http://host[:port] or https://host[:port]; or a layout on
    /// this machine: oci:DIRECTORY or oci-archive:FILE.
    ///
    /// Without a scheme, a loopback address is spoken to in plain HTTP unless -fp is given, and
    /// every other one in HTTPS. In a layout the release is looked for under the names
    /// configs/NAME:CHANNEL and CHANNEL; a single manifest may do without a name.
    #[arg(long, default_value = "localhost:2022")]
    pub(crate) addr: Origin,
    /// Directory to store downloaded and unpacked files; made where it is missing
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Fingerprint of the registry's key, SHA256:…, as the registry logs it
    #[arg(long, env = "DEPLOYCTL_FINGERPRINT", hide_env_values = true)]
    pub(crate) fp: Option<Given<Fingerprint>>,
    /// SSH key to prove who this host is where the registry asks for it: a private key without a
    /// passphrase, or one that the ssh-agent keeps
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// File of allowed signers, as ssh-keygen has it: lines of somebody and a public key. Only
    /// releases that one of them signed for this configuration are deployed
    ///
    /// Older releases than one that was deployed count only when they were signed as a rollback.
    /// The file is read at each decision.
    #[arg(long, value_name = "FILE")]
    pub(crate) allowed_signers: Option<PathBuf>,
    /// Configuration to track; given several times, each of them, in a directory of its name within
    /// -dir
    #[arg(long = "name", value_name = "NAME", required_unless_present = "config")]
    pub(crate) names: Vec<ConfigurationName>,
    /// TOML file of configurations to track, each a table [NAME] with flags of its own, as
    /// `script = "./deploy.sh"`
    ///
    /// Keys are flags without dashes. Those before the first table, and those of the command line,
    /// are for all of them; what a table says itself counts more. Each configuration has a directory of its name within -dir unless its
    /// table has `dir`.
    #[arg(long, value_name = "FILE", conflicts_with = "names")]
    pub(crate) config: Option<PathBuf>,
    /// The command line, for -config
    #[arg(skip)]
    pub(crate) line: Vec<OsString>,
    /// Channel of the configuration to follow
    #[arg(long, default_value_t = Channel::latest())]
    pub(crate) channel: Channel,
    /// What stands before configs/ in the names of repositories
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) prefix: Prefix,
    /// How often to look at the channel where the registry does not tell of changes by itself
    #[arg(long, default_value = "30s", value_parser = interval)]
    pub(crate) poll: Duration,
    /// How long a registry may send nothing in the middle of an answer before it is asked again
    #[arg(long, default_value = "1m", value_parser = interval, value_name = "DURATION")]
    pub(crate) stall_timeout: Duration,
    /// Bytes of layers that may come in a second, for each configuration, as 20MiB [default: any
    /// number]
    #[arg(long, value_parser = rate, value_name = "SIZE")]
    pub(crate) limit_rate: Option<NonZeroU64>,
    /// Further registry or layout that layers may come from, asked before -addr; given several
    /// times, in that order. What the channel is, -addr alone says
    ///
    /// The fingerprint of its own key may stand behind its address, as HOST:PORT#SHA256:…; that of
    /// -fp is the key of -addr alone.
    #[arg(long = "mirror", value_name = "ADDR")]
    pub(crate) mirrors: Vec<Mirror>,
    /// Serve metrics for Prometheus at /metrics: on a loopback address as 127.0.0.1:9101, or on a
    /// socket as unix:/run/agent.sock
    #[arg(long, value_name = "PLACE")]
    pub(crate) metrics: Option<Place>,
    /// File to write the same metrics to, for the text file collector of node_exporter
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics_file: Option<PathBuf>,
    /// Script to run on deploys
    #[arg(long, default_value = "./deploy.sh", value_name = "FILE")]
    pub(crate) script: PathBuf,
    /// Script that may refuse a release: it is run before anything on the host is changed, with the
    /// environment of -script
    ///
    /// Where it fails, it is asked again after a pause.
    #[arg(long, value_name = "FILE")]
    pub(crate) prepare: Option<PathBuf>,
    /// Script that tells whether the host is well: it is run after -script, with its environment,
    /// until it succeeds
    ///
    /// Where it does not within -check-timeout, or not throughout -soak, the host goes back to the
    /// release that it had: `current` first, then -script is run with old and new exchanged. The
    /// release is not deployed again then: a newer one is waited for, or `deploy-agent retry`.
    #[arg(long, value_name = "FILE")]
    pub(crate) check: Option<PathBuf>,
    /// Time within which -check has to succeed once
    #[arg(long, default_value = "1m", value_parser = interval, value_name = "DURATION")]
    pub(crate) check_timeout: Duration,
    /// Time for which -check has to go on succeeding after that; it is asked ten times, but at least
    /// every 10s
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "DURATION")]
    pub(crate) soak: Duration,
    /// Go back to the release before also where -script fails, and do not try the failing one again
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(crate) rollback: bool,
    /// Longest time that a script may take, as 10m; it is ended then, with all that it started,
    /// and has failed. 0 is any time
    #[arg(long, default_value = "1h", value_parser = limit, value_name = "DURATION")]
    pub(crate) script_timeout: Limit,
    /// File to save state to [default: state.json in the directory of -dir]
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// How many unpacked releases stay beside the deployed one, the last ones that were deployed; the
    /// others are removed after a success [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16))]
    pub(crate) keep: Option<u16>,
    /// Remove unreferenced unpacked files after successful switch: -keep 0, unless -keep says more.
    /// No release is left then that `deploy-agent rollback` could go back to
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(crate) cleanold: bool,
    /// How much stays free on the file systems of the cache and of the trees: a release is refused
    /// that would use it up, before anything of it is fetched, and again before it is unpacked.
    /// Some inodes stay free too, unless it is 0
    #[arg(long, default_value = "64MiB", value_parser = bytes, value_name = "SIZE")]
    pub(crate) reserve: u64,
    /// Look once: exit with 0 when the release is deployed, now or already, with 1 otherwise
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(crate) once: bool,
    /// Be more chatty about what's happening
    #[arg(short, long)]
    pub(crate) v: bool,
    #[command(flatten)]
    pub(crate) unpacking: Unpacking,
}

impl Arguments {
    /// Returns the one configuration.
    ///
    /// # Errors
    /// Where there are several, or a file of them.
    pub(crate) fn single(&self) -> Result<&ConfigurationName> {
        match &*self.names {
            [name] => Ok(name),
            _ => bail!("this is about one configuration\nhint: give one -name, and its -dir"),
        }
    }

    /// Returns how many old trees stay; all without a number.
    pub(crate) fn keep(&self) -> Option<usize> {
        let keep = self.keep.map(usize::from);
        keep.or(self.cleanold.then_some(0))
    }
}

/// A longest time, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

fn limit(text: &str) -> Result<Limit, String> {
    if text == "0" {
        return Ok(Limit(None));
    }
    interval(text).map(|limit| Limit(Some(limit)))
}

fn rate(text: &str) -> Result<NonZeroU64, String> {
    let rate = NonZeroU64::new(bytes(text)?);
    rate.ok_or_else(|| "nothing would ever come".to_owned())
}

fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("the interval must be longer than nothing".to_owned()),
        interval => Ok(interval),
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write `30s` or `1m30s`"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        let arguments = ["deploy-agent"].iter().chain(arguments).map(Into::into);
        Arguments::try_parse_from(deploy_spec::arguments::normalise(arguments))
    }

    #[test]
    fn flags_are_the_originals() {
        Arguments::command().debug_assert();
        let arguments = parse(&[
            "-addr",
            "127.0.0.1:5000",
            "-dir=/srv/agent",
            "-name",
            "project1",
            "-poll",
            "1m30s",
            "-script",
            "run.sh",
            "-state",
            "/srv/state",
            "-cleanold",
            "-v",
            "--once",
            "-channel",
            "stable",
            "-prefix",
            "acme/prod",
        ])
        .unwrap();
        assert_eq!(arguments.poll, Duration::from_secs(90));
        assert!(arguments.cleanold && arguments.once && arguments.v);
        assert_eq!(arguments.channel.to_string(), "stable");
        let defaults = parse(&["-name", "x", "-cleanold=false"]).unwrap();
        assert_eq!(defaults.script_timeout.0, Some(Duration::from_secs(3600)));
        assert_eq!(defaults.check_timeout, Duration::from_secs(60));
        assert_eq!(defaults.soak, Duration::ZERO);
        assert!(defaults.prepare.is_none() && defaults.check.is_none() && !defaults.rollback);
        let keep = |flags: &[&str]| parse(&[&["-name", "x"], flags].concat()).unwrap().keep();
        assert_eq!(keep(&[]), None);
        assert_eq!(keep(&["-cleanold"]), Some(0));
        assert_eq!(keep(&["-cleanold", "-keep", "2"]), Some(2));
        let checked = parse(&[
            "-name",
            "x",
            "-check",
            "c",
            "-soak=5m",
            "-rollback",
            "-prepare=p",
        ]);
        let checked = checked.unwrap();
        assert!(checked.rollback);
        assert_eq!(checked.soak, Duration::from_secs(300));
        assert_eq!(
            (checked.prepare, checked.check),
            (Some("p".into()), Some("c".into()))
        );
        let unlimited = parse(&["-name", "x", "-script-timeout", "0"]).unwrap();
        assert_eq!(unlimited.script_timeout.0, None);
        assert_eq!(defaults.addr.to_string(), "localhost:2022");
        assert!(!defaults.cleanold && !defaults.once && !defaults.v);
        assert_eq!(
            (defaults.dir, defaults.script),
            (".".into(), "./deploy.sh".into())
        );
        for wrong in [
            &[][..],
            &["-name", "Not a name"],
            &["-name", "x", "-poll", "0s"],
            &["-name", "x", "-channel", "v7"],
            &["-name", "x", "-check-timeout", "0s"],
            &["-name", "x", "-keep", "-1"],
            &["-name", "x", "-config", "file"],
            &["-name", "x", "-limit-rate", "0"],
            &["-name", "x", "-metrics", "0.0.0.0:9101"],
            &["-name", "x", "more"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
