//! What a person may type. Parsed by `main`.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use deploy_spec::{Channel, ConfigurationName, Prefix};
use deployctl::client::Fingerprint;

use crate::{origin::Origin, unpacking::Unpacking};

/// Follows one configuration of an OCI registry: fetches its layers, unpacks them into a new
/// directory, runs a script that switches the host to it.
///
/// Every flag may be written with one dash or two: -name x, --name x, -name=x. Exit status:
/// 0 done or told to stop, 1 failed, 2 wrong usage.
#[derive(Debug, Parser)]
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
    #[arg(long)]
    pub(crate) fp: Option<Fingerprint>,
    /// SSH private key to use where the registry asks for one.
    ///
    /// A registry that serves everybody asks for none, and then the key is not used.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Configuration to track
    #[arg(long)]
    pub(crate) name: ConfigurationName,
    /// Channel of the configuration to follow
    #[arg(long, default_value_t = Channel::latest())]
    pub(crate) channel: Channel,
    /// What stands before configs/ in the names of repositories
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) prefix: Prefix,
    /// How often to look at the channel where the registry does not tell of changes by itself
    #[arg(long, default_value = "30s", value_parser = interval)]
    pub(crate) poll: Duration,
    /// Script to run on deploys
    #[arg(long, default_value = "./deploy.sh", value_name = "FILE")]
    pub(crate) script: PathBuf,
    /// Longest time that the script may take, as 10m; it is ended then, with all that it started,
    /// and has failed. 0 is any time
    #[arg(long, default_value = "1h", value_parser = limit, value_name = "DURATION")]
    pub(crate) script_timeout: Limit,
    /// File to save state to [default: state.json in the directory of -dir]
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// Remove unreferenced unpacked files after successful switch
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(crate) cleanold: bool,
    /// Look once: exit with 0 when the release is deployed, now or already, with 1 otherwise
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(crate) once: bool,
    /// Be more chatty about what's happening
    #[arg(short, long)]
    pub(crate) v: bool,
    #[command(flatten)]
    pub(crate) unpacking: Unpacking,
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

fn interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("the interval must be longer than nothing".to_owned()),
        Ok(interval) => Ok(interval),
        Err(error) => Err(format!("{error}; write `30s` or `1m30s`")),
    }
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
            &["-name", "x", "more"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
