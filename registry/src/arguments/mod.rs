//! What a person may type, and what it comes to. Used by `main` and the verbs.
//!
//! One file a group of flags; verbs put together what they take.

mod audit;
mod config_file;
mod identity;
mod limits;
mod manual;
mod people;
mod serve;
mod storage;
mod upkeep;
mod values;

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use audit::AuditFlags;
pub(crate) use config_file::ConfigFile;
pub(crate) use identity::IdentityFlags;
pub(crate) use limits::LimitFlags;
pub(crate) use people::{People, PeopleFlags};
pub(crate) use serve::{Serve, Settings, UsageError};
pub(crate) use storage::Storage;
pub(crate) use upkeep::{GcVerb, Output, ScrubVerb};

/// Serves an OCI registry, and looks after what it keeps.
///
/// Without a verb it serves. Flags may be written with one dash or two: -addr x, --addr x,
/// -addr=x. A verb stands in front of its flags.
#[derive(Debug, Parser)]
#[command(
    name = "deploy-registry",
    version,
    args_conflicts_with_subcommands = true,
    after_long_help = manual::TEXT
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Serve the registry; what happens without a verb
    Serve(Box<Serve>),
    /// Remove what nobody needs any more, beside whoever serves it
    Gc(GcVerb),
    /// Read and check everything that is stored, and set aside what is damaged
    Scrub(ScrubVerb),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the manual page, or write one page per verb
    Man(Man),
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Directory for one page per verb
    #[arg(value_name = "DIRECTORY")]
    pub(crate) directory: Option<PathBuf>,
}

/// What is said of the work, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Logs")]
pub(crate) struct Logging {
    /// How log lines are written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// Where each request leaves a line once its answer has ended: `on` for standard error,
    /// `off`, or a file, which is written on at its end.
    #[arg(long, value_name = "on|off|FILE", default_value = "on")]
    pub(crate) access_log: AccessTarget,
}

/// Where the lines of the access log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccessTarget {
    Stderr,
    Nowhere,
    File(PathBuf),
}

impl From<OsString> for AccessTarget {
    fn from(text: OsString) -> Self {
        match text.to_str() {
            Some("on") => Self::Stderr,
            Some("off") => Self::Nowhere,
            _ => Self::File(text.into()),
        }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use deploy_registry::store::Location;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        let line = line.split(' ').map(Into::into);
        Arguments::try_parse_from(deploy_spec::arguments::normalise(line))
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_a_verb_it_serves() {
        let bare = parsed("p -dir /srv -anonymous write").unwrap();
        assert!(bare.verb.is_none());
        let place = Ok(Location::Directory("/srv".into()));
        assert_eq!(bare.serve.storage.location(), place);
        match parsed("p serve -dir=/srv --anonymous write").unwrap().verb {
            Some(Verb::Serve(serve)) => assert_eq!(serve.storage, bare.serve.storage),
            other => panic!("{other:?}"),
        }
        let bucket = parsed("p -store s3://bucket/x -anonymous write").unwrap();
        let place = bucket.serve.storage.location().unwrap();
        assert_eq!(place.to_string(), "s3://bucket/x");
        for two in [
            "-dir /srv -memory",
            "-dir /srv -store memory:///",
            "-memory -store s3://b",
        ] {
            assert!(parsed(&format!("p {two}")).is_err(), "{two}");
        }
        // Which verb the flags in front are meant for, nobody could say.
        assert!(parsed("p -dir /srv man").is_err());
        assert!(parsed("p serv").is_err());
    }
}
