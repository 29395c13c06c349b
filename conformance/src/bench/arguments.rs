//! The command line of `conformance bench`. Read by `bench` only.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

/// Options of `conformance bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The registries, as `[NAME=]URL[@PID]`; with the process id of a server on this machine
    /// its CPU time and memory are measured too
    #[arg(value_name = "[NAME=]URL[@PID]")]
    pub(crate) peers: Vec<Address>,
    /// Measure only cells whose identifier fits; may be given more than once
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// Print the cells that would be measured, and measure nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// How often every cell is measured on every registry; figures are medians
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) rounds: usize,
    /// How long one cell is measured on one registry, in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = parse_seconds)]
    pub(crate) seconds: f64,
    /// The sizes of the repositories of which a page of tags is read
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [100, 1_000])]
    pub(crate) tags: Vec<usize>,
    /// Measure also what takes minutes to set up, or gigabytes: 10,000 and 100,000 tags, and
    /// memory under 64 uploads and 64 downloads of 100 MiB at once
    #[arg(long)]
    pub(crate) full: bool,
    /// One short round with small blobs; shows that everything works, and no figures worth quoting
    #[arg(long, conflicts_with = "full")]
    pub(crate) quick: bool,
    /// Measure a mix of pushes while this command runs, again and again; it finds BENCH_NAME,
    /// BENCH_URL and BENCH_PID in its environment
    #[arg(long, value_name = "COMMAND")]
    pub(crate) during: Option<String>,
    /// The first part of the name of every repository that is made
    #[arg(long, value_name = "NAME", default_value = "bench")]
    pub(crate) repository: String,
    /// Do not start distribution, even where its program `registry` is on PATH
    #[arg(long)]
    pub(crate) without_distribution: bool,
    /// Allow registries on other machines; without it traffic stays on loopback
    #[arg(long)]
    pub(crate) remote: bool,
    /// Also write everything measured as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also draw the medians
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

impl Bench {
    /// The time for one cell, on one registry, in one round.
    pub(crate) fn limit(&self) -> Duration {
        if self.quick {
            Duration::from_millis(200)
        } else {
            Duration::from_secs_f64(self.seconds)
        }
    }

    /// How often every cell is measured.
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds.max(1) }
    }
}

/// A registry as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) name: String,
    /// `host:port`, as the header `Host` has it.
    pub(crate) authority: String,
    pub(crate) process: Option<u32>,
}

impl Address {
    /// Where to connect to. On loopback, unless `remote` allows more.
    pub(crate) fn resolve(&self, remote: bool) -> anyhow::Result<SocketAddr> {
        let addresses: Vec<SocketAddr> = self
            .authority
            .to_socket_addrs()
            .map_err(|error| anyhow::anyhow!("find `{}`: {error}", self.authority))?
            .collect();
        let allowed = |address: &&SocketAddr| remote || address.ip().is_loopback();
        // `localhost` is often both; servers mostly listen on the older one.
        addresses
            .iter()
            .filter(allowed)
            .min_by_key(|address| address.is_ipv6())
            .copied()
            .ok_or_else(|| {
                anyhow::anyhow!(
                    "`{}` is not on loopback; hint: `--remote` puts load on another machine",
                    self.authority
                )
            })
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = match text.split_once('=') {
            Some((name, rest)) if !name.contains([':', '/']) => (Some(name.to_owned()), rest),
            _ => (None, text),
        };
        let (url, process) = match rest.rsplit_once('@') {
            Some((url, process)) => {
                let process = process
                    .parse()
                    .map_err(|_| format!("`{process}` is no process id"))?;
                (url, Some(process))
            }
            None => (rest, None),
        };
        if url.starts_with("https://") {
            // The generator would measure its own cipher.
            return Err("only plain http is measured".into());
        }
        let host = url.strip_prefix("http://").unwrap_or(url);
        let host = host.trim_end_matches('/');
        let host = host.strip_suffix("/v2").unwrap_or(host);
        if host.is_empty() || host.contains(['/', '?', '#', '@']) {
            return Err("not an address like `http://host:port`".into());
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        Ok(Self {
            name: name.unwrap_or_else(|| authority.clone()),
            authority,
            process,
        })
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 600.0 => Ok(seconds),
        _ => Err("not a number of seconds, up to 600".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, wanted) in [
            (
                "http://127.0.0.1:5000",
                Some(("127.0.0.1:5000", "127.0.0.1:5000", None)),
            ),
            (
                "zot=http://127.0.0.1:5000/v2/@17",
                Some(("zot", "127.0.0.1:5000", Some(17))),
            ),
            (
                "localhost:5000@3",
                Some(("localhost:5000", "localhost:5000", Some(3))),
            ),
            (
                "http://[::1]:5000",
                Some(("[::1]:5000", "[::1]:5000", None)),
            ),
            ("http://host", Some(("host:80", "host:80", None))),
            ("https://host", None),
            ("host:1@me", None),
            ("http://host/path", None),
            ("", None),
        ] {
            let read = text.parse::<Address>().ok();
            let read = read
                .as_ref()
                .map(|it| (it.name.as_str(), it.authority.as_str(), it.process));
            assert_eq!(read, wanted, "{text}");
        }
    }

    #[test]
    fn load_stays_on_loopback() {
        let address: Address = "192.0.2.1:80".parse().expect("an address");
        assert!(address.resolve(false).is_err());
        assert!(address.resolve(true).is_ok());
        let address: Address = "localhost:80".parse().expect("an address");
        assert!(address.resolve(false).is_ok_and(|it| it.ip().is_loopback()));
    }
}
