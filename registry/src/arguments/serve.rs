//! The flags of `serve`, and the settings that they come to. Pure, except that a host name is
//! looked up.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use deploy_registry::{Mode, Plain, ServerSettings, jobs::Upkeep};

use super::{
    AuditFlags, IdentityFlags, LimitFlags, Logging, People, PeopleFlags, Storage,
    upkeep::UpkeepFlags,
    values::{duration, positive_duration},
};

/// What `serve` takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    people: PeopleFlags,
    #[command(flatten)]
    pub(crate) identity: IdentityFlags,
    #[command(flatten)]
    pub(crate) storage: Storage,
    /// Takes no changes: pushes and deletes are answered with 405, and no upkeep is done.
    #[arg(long, help_heading = "Storage")]
    read_only: bool,

    #[command(flatten)]
    upkeep: UpkeepFlags,
    #[command(flatten)]
    audit: AuditFlags,
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
    #[command(flatten)]
    pub(crate) logging: Logging,

    /// File with limits and the log's filter, which is read again at each SIGHUP. What is typed
    /// wins over it.
    #[arg(long, value_name = "FILE", help_heading = "Limits")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network")]
struct Network {
    /// Address to listen on; port 0 takes a free one. With `--anonymous write` one of loopback
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:2022")]
    addr: String,

    /// Writes the address that is listened on to this file, once it is.
    #[arg(long, value_name = "FILE")]
    addr_file: Option<PathBuf>,

    /// Longest life of a connection, as `30m`; requests on it are finished. 0 is for ever.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    deadline: Duration,

    /// Longest time that a peer may make no progress, as `60s`.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = positive_duration)]
    idle: Duration,

    /// Connections at once; more wait until one ends. 0 is any number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    max_connections: usize,
}

/// What the flags come to.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Addresses to listen on: the first one that works.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) address_file: Option<PathBuf>,
    pub(crate) people: People,
    pub(crate) storage: Storage,
    pub(crate) identity: IdentityFlags,
    pub(crate) server: ServerSettings,
}

/// Flags that a registry cannot start with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    #[error(
        "nobody has a key here, so nobody could use this registry\n\
         hint: name a file of public keys with `--opauth` or of users with `--htpasswd`, or let everybody on this machine read and write, with `--anonymous write`"
    )]
    NobodyMay,
    #[error(
        "`--anonymous read` leaves nobody who may write\n\
         hint: name a file of operators' public keys with `--opauth` or of users with `--htpasswd`, or say `--read-only`"
    )]
    NobodyMayWrite,
    #[error(
        "with `--anonymous write` everybody may do everything, and keys and passwords are for nothing\n\
         hint: leave out either that or the files of keys and users"
    )]
    KeysForNothing,
    #[error(
        "`{address}` is no loopback address: with `--anonymous write`, everybody who reaches it could write\n\
         hint: listen on one, as `--addr localhost:2022`, and let others in through a tunnel or a proxy that knows them"
    )]
    NotLoopback { address: String },
    #[error("`{address}` is no address to listen on: {reason}\nhint: write it as `localhost:2022`")]
    Address { address: String, reason: io::Error },
}

impl Serve {
    /// Returns what the flags come to.
    pub(crate) fn settings(self) -> Result<Settings, UsageError> {
        let Self {
            network,
            storage,
            read_only,
            upkeep,
            audit,
            identity,
            people,
            ..
        } = self;
        let people = people.people(read_only)?;
        Ok(Settings {
            addresses: addresses(&network.addr, people == People::All)?,
            people,
            address_file: network.addr_file,
            storage,
            server: ServerSettings {
                plain: match identity.plain_http {
                    true => Plain::Everywhere,
                    false => Plain::Loopback,
                },
                deadline: Some(network.deadline).filter(|deadline| !deadline.is_zero()),
                idle: network.idle,
                upkeep: Upkeep {
                    audit_retention: audit.retention(),
                    ..upkeep.settings()
                },
                audit: audit.audit(),
                mode: match read_only {
                    true => Mode::ReadOnly,
                    false => Mode::ReadWrite,
                },
                connections: NonZeroUsize::new(network.max_connections),
                ..ServerSettings::default()
            },
            identity,
        })
    }
}

/// Returns what the address stands for; with `loopback`, where that is this machine alone.
fn addresses(address: &str, loopback: bool) -> Result<Vec<SocketAddr>, UsageError> {
    let failed = |reason| UsageError::Address {
        address: address.to_owned(),
        reason,
    };
    // As the original's language writes it: `:2022` is every address of the machine.
    let everywhere = address.strip_prefix(':').map(|port| format!("[::]:{port}"));
    let place = everywhere.as_deref().unwrap_or(address);
    let mut addresses: Vec<SocketAddr> = place.to_socket_addrs().map_err(failed)?.collect();
    if addresses.is_empty() {
        return Err(failed(io::ErrorKind::AddrNotAvailable.into()));
    }
    if loopback && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(UsageError::NotLoopback {
            address: address.to_owned(),
        });
    }
    // Clients that cannot decide try this one too.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::Arguments;
    use deploy_registry::store::Location;

    fn settings(arguments: &[&str]) -> Result<Settings, UsageError> {
        let arguments = ["deploy-registry"].iter().chain(arguments).map(Into::into);
        Arguments::try_parse_from(deploy_spec::arguments::normalise(arguments))
            .unwrap()
            .serve
            .settings()
    }

    #[test]
    fn flags_of_the_original_are_understood() {
        let settings = settings(&[
            "-addr",
            "127.0.0.1:0",
            "-dir=/srv",
            "-maxver",
            "0",
            "-deadline",
            "0",
            "-anonymous",
            "write",
        ])
        .unwrap();
        assert_eq!(settings.addresses, ["127.0.0.1:0".parse().unwrap()]);
        let place = Ok(Location::Directory("/srv".into()));
        assert_eq!(settings.storage.location(), place);
        assert_eq!(settings.server.upkeep.retention.versions, None);
        assert_eq!(settings.server.deadline, None);
    }

    #[test]
    fn defaults_are_those_of_the_original() {
        let settings = settings(&["--anonymous", "write"]).unwrap();
        assert!(
            settings
                .addresses
                .iter()
                .all(|address| address.port() == 2022)
        );
        let place = Ok(Location::Directory("/var/lib/deploy-registry".into()));
        assert_eq!(settings.storage.location(), place);
        assert_eq!(settings.server.upkeep.retention.versions, Some(10));
        assert_eq!(settings.server.deadline, Some(Duration::from_secs(1800)));
    }

    #[test]
    fn what_would_let_strangers_write_is_refused() {
        assert!(matches!(settings(&[]), Err(UsageError::NobodyMay)));
        assert!(matches!(
            settings(&["-anonymous", "read"]),
            Err(UsageError::NobodyMayWrite)
        ));
        let reading = settings(&["-anonymous", "read", "-read-only"]).unwrap();
        assert_eq!(reading.server.mode, Mode::ReadOnly);
        for address in ["0.0.0.0:2022", ":2022", "[::]:0", "192.0.2.1:80"] {
            let refused = settings(&["-anonymous", "write", "-addr", address]);
            assert!(
                matches!(refused, Err(UsageError::NotLoopback { .. })),
                "{address}"
            );
        }
        for address in ["", "localhost", "localhost:x", "127.0.0.1:99999"] {
            let refused = settings(&["-anonymous", "write", "-addr", address]);
            assert!(
                matches!(refused, Err(UsageError::Address { .. })),
                "{address}"
            );
        }
    }

    #[test]
    fn durations_are_checked() {
        for arguments in [["-idle", "0"], ["-upkeep", "0s"], ["-deadline", "x"]] {
            let arguments = ["p"].into_iter().chain(arguments).map(Into::into);
            let arguments = deploy_spec::arguments::normalise(arguments);
            assert!(Arguments::try_parse_from(arguments).is_err());
        }
    }
}
