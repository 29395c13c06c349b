//! The command line. Read by `main` and by nobody else.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use url::Url;

use crate::auth::Credentials;
use crate::bench::Bench;
use crate::report::print::Output;

/// Checks an OCI registry against the distribution specification.
#[derive(Debug, Parser)]
#[command(name = "conformance", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run our own suite: every rule of the specification as a named check
    Run(Run),
    /// Run the official suite, and fail on any failure or skip in it
    Official(Official),
    /// Run real clients: skopeo, crane, oras, regctl, podman
    Clients(Clients),
    /// Measure registries side by side under load
    Bench(Bench),
    /// List the checks of our own suite with their rules
    List(List),
}

/// The registry and where results go; the same for every suite.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The registry, as `http://host:port` or `https://host`
    #[arg(value_parser = parse_registry)]
    pub(crate) url: Url,
    /// The first part of the name of every repository that is made
    #[arg(long, value_name = "NAME", default_value = "conformance")]
    pub(crate) repository: String,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also write the report as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Who to log in as, where the registry asks
    #[arg(long, env = "CONFORMANCE_USERNAME", value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// The password; better given by the environment, which other users can not read
    #[arg(
        long,
        env = "CONFORMANCE_PASSWORD",
        value_name = "TEXT",
        hide_env_values = true
    )]
    pub(crate) password: Option<String>,
    /// Accept any TLS certificate
    #[arg(long)]
    pub(crate) insecure: bool,
}

impl Common {
    /// `host` or `host:port`, as clients name a registry.
    pub(crate) fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The credentials, where a name was given.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        let password = self.password.clone().unwrap_or_default();
        self.username
            .clone()
            .map(|username| Credentials::new(username, password))
    }
}

/// Options of `conformance run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Run only checks whose identifier fits; may be given more than once
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// The version of the specification to hold the registry to
    #[arg(long, value_enum, default_value_t)]
    pub(crate) spec_version: SpecVersion,
    /// How many checks run at a time
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) jobs: usize,
    /// How long one check may take
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

/// Options of `conformance official`.
#[derive(Debug, Args)]
pub(crate) struct Official {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The versions of the specification to run it for
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "VERSION",
        default_values_t = [OfficialVersion::V1_1, OfficialVersion::Dev]
    )]
    pub(crate) spec_version: Vec<OfficialVersion>,
    /// Fail where the suite is not installed
    #[arg(long)]
    pub(crate) require: bool,
}

/// A version that the official suite knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OfficialVersion {
    /// What 1.1 asks for
    #[value(name = "1.1")]
    V1_1,
    /// What the next version asks for
    Dev,
}

impl OfficialVersion {
    /// The value of `OCI_VERSION`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V1_1 => "1.1",
            Self::Dev => "dev",
        }
    }
}

/// Options of `conformance clients`.
#[derive(Debug, Args)]
pub(crate) struct Clients {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Run only checks whose identifier fits; may be given more than once
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// Fail where a client is not installed; so does CI=true in the environment
    #[arg(long)]
    pub(crate) require_clients: bool,
    /// How many checks run at a time
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) jobs: usize,
}

/// Options of `conformance list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// List only checks whose identifier fits; may be given more than once
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
}

/// A version of the distribution specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SpecVersion {
    /// The tag v1.1.1
    #[value(name = "1.1.1")]
    V1_1_1,
    /// The branch main, which is 1.1.1 and what comes next
    #[default]
    Main,
}

/// Reads a registry's address; without a scheme a loopback host means plain HTTP.
fn parse_registry(text: &str) -> Result<Url, String> {
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else if is_loopback(text) {
        format!("http://{text}")
    } else {
        format!("https://{text}")
    };
    let url = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("not an http or https address".into());
    }
    if !matches!(url.path(), "" | "/" | "/v2" | "/v2/") || url.query().is_some() {
        return Err("a registry's address has no path".into());
    }
    let root = url.join("/").map_err(|error| error.to_string())?;
    Ok(root)
}

fn is_loopback(text: &str) -> bool {
    ["localhost", "127.", "[::1]"]
        .iter()
        .any(|start| text.starts_with(start))
}

fn parse_duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, url) in [
            ("http://127.0.0.1:5000", Some("http://127.0.0.1:5000/")),
            ("https://r.example/v2/", Some("https://r.example/")),
            ("localhost:5000", Some("http://localhost:5000/")),
            ("r.example", Some("https://r.example/")),
            ("http://h/some/path", None),
            ("ftp://h", None),
            ("http://", None),
        ] {
            assert_eq!(
                parse_registry(text).ok().map(String::from).as_deref(),
                url,
                "{text}"
            );
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
