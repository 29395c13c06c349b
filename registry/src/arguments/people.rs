//! The flags that say who may do what. Part of `serve`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use deploy_registry::auth::{Role, Sources};

use super::UsageError;

/// People and services.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct PeopleFlags {
    /// Public keys of operators, who read and write, as in `~/.ssh/authorized_keys`; the options
    /// repository="NAME" and expiry-time="YYYYMMDD" narrow a key. Read again when it changes, and
    /// at each SIGHUP
    #[arg(long, value_name = "FILE")]
    opauth: Option<PathBuf>,

    /// Public keys of services, which read, in the same form
    #[arg(long, value_name = "FILE")]
    srvauth: Option<PathBuf>,

    /// Users with their passwords, as `htpasswd -B` writes them; a third field says what a user may
    /// do: NAME:HASH:write,repository="NAME",expiry-time="YYYYMMDD". Without one he reads
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,

    /// What is done without a key: reading, or everything, which is for this machine alone and
    /// without files of keys
    #[arg(long, value_enum, value_name = "RIGHT")]
    anonymous: Option<Right>,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Right {
    Read,
    Write,
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum People {
    /// Everybody may do everything.
    All,
    /// Those who are in files, and others as far as that says.
    Known(Sources),
}

impl PeopleFlags {
    /// Returns who may do what; with `read_only`, nobody needs to be able to write.
    pub(crate) fn people(&self, read_only: bool) -> Result<People, UsageError> {
        let is_known = self.opauth.is_some() || self.srvauth.is_some() || self.htpasswd.is_some();
        // Among users may be some who write.
        let may_write = self.opauth.is_some() || self.htpasswd.is_some();
        let sources = |anonymous| Sources {
            operators: self.opauth.clone(),
            services: self.srvauth.clone(),
            users: self.htpasswd.clone(),
            anonymous,
        };
        match self.anonymous {
            None if is_known => Ok(People::Known(sources(None))),
            None => Err(UsageError::NobodyMay),
            Some(Right::Read) if may_write || read_only => {
                Ok(People::Known(sources(Some(Role::Read))))
            }
            Some(Right::Read) => Err(UsageError::NobodyMayWrite),
            Some(Right::Write) if is_known => Err(UsageError::KeysForNothing),
            Some(Right::Write) => Ok(People::All),
        }
    }
}
