//! The verb that a person types first, and what may follow it. Parsed by `main`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, ValueEnum};

use deploy_spec::{Fingerprint, Prefix};

use crate::{
    arguments::{Arguments, duration},
    origin::Origin,
};

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Verb {
    /// Follow a configuration, or look once.
    Run(Box<Arguments>),
    /// Say what a deployment would change.
    Plan(Box<PlanArguments>),
    /// Compare a tree with its layers.
    Verify(VerifyArguments),
    /// Remove what is needed no more.
    Prune(PruneArguments),
    /// Say what is deployed.
    Status(StatusArguments),
    /// Try again what failed.
    Retry(RetryArguments),
    /// Go back to what was deployed before.
    Rollback(RollbackArguments),
}

/// Says what would change if the release that the channel has were deployed now: how many bytes
/// would come and be written, and which names would be added (+), removed (-), changed (~) or get
/// another mode, owner, time or extended attribute (m).
///
/// It takes the flags of run, of which the scripts' are not used. Nothing on the host changes, but
/// that layers which are not in the cache come there, for the deployment to find; the agent waits
/// meanwhile. The bytes to fetch are those that were missing before that. The comparison is one of
/// the two releases' layers: what was changed on the host since is what verify tells.
///
/// Exit status: 0 said, 1 failed, 2 wrong usage, with -exit-code 3 where something would change.
#[derive(Debug, Parser)]
#[command(name = "deploy-agent-plan", bin_name = "deploy-agent plan")]
pub(crate) struct PlanArguments {
    /// Leave layers where they are: without those that are missing, files are not compared
    #[arg(long)]
    pub(crate) no_fetch: bool,
    /// Exit with 3 where something would change
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "HOW")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) turn: TurnArguments,
    #[command(flatten)]
    pub(crate) run: Arguments,
}

/// Compares the tree of the deployed release with its layers, hash by hash, and lists what drifted:
/// missing and extra names, type, content, link target, mode, owner, and the times of files.
///
/// The agent waits meanwhile. Layers that the cache lacks come from -addr. With -repair what drifted
/// is restored: each file is written beside the tree and renamed, so that whoever reads it finds the
/// old one or the new one.
///
/// Exit status: 0 nothing drifted or all of it is restored, 1 failed, 2 wrong usage, 3 it drifted.
#[derive(Debug, Parser)]
#[command(name = "deploy-agent-verify", bin_name = "deploy-agent verify")]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) turn: TurnArguments,
    /// Restore what drifted
    #[arg(long)]
    pub(crate) repair: bool,
    /// What becomes of names that the release does not have, such as what a script has written
    #[arg(long, value_enum, default_value_t = ExtraNames::List, value_name = "WHAT")]
    pub(crate) extra: ExtraNames,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "HOW")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) source: SourceArguments,
}

/// What becomes of names that a release does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExtraNames {
    /// They are drift, and stay
    List,
    /// They are not looked at
    Ignore,
    /// They are drift, and -repair removes them
    Remove,
}

/// Where layers come from that the cache lacks.
#[derive(Debug, Args)]
pub(crate) struct SourceArguments {
    /// Registry or layout that layers come from which the cache lacks, as of run
    #[arg(long)]
    addr: Option<Origin>,
    /// What stands before configs/ in the names of repositories
    #[arg(long, default_value = "", hide_default_value = true, requires = "addr")]
    prefix: Prefix,
    /// Fingerprint of the registry's key, SHA256:…, as the registry logs it
    #[arg(long, requires = "addr")]
    fp: Option<Fingerprint>,
    /// SSH private key to use where the registry asks for one
    #[arg(long, value_name = "FILE", requires = "addr")]
    key: Option<PathBuf>,
}

impl SourceArguments {
    /// Returns the same as arguments of run, for the configuration of this name; nothing where
    /// nobody named a source.
    pub(crate) fn run(&self, configuration: &str) -> Result<Option<Arguments>, clap::Error> {
        let Some(addr) = &self.addr else {
            return Ok(None);
        };
        let mut arguments: Vec<OsString> = vec!["deploy-agent".into()];
        let mut flag = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        flag("--name", configuration.into());
        flag("--addr", addr.to_string().into());
        flag("--prefix", self.prefix.to_string().into());
        if let Some(fp) = &self.fp {
            flag("--fp", fp.to_string().into());
        }
        if let Some(key) = &self.key {
            flag("--key", key.into());
        }
        Arguments::try_parse_from(arguments).map(Some)
    }
}

/// Removes what the host needs no more: trees of earlier releases, layers that no deployment needs,
/// and what was left half made by an agent that was killed.
///
/// Never what is deployed, what a deployment is at, or the release that rollback goes back to. The
/// agent waits meanwhile; a prune that is killed is gone on with by the next one.
#[derive(Debug, Parser)]
#[command(name = "deploy-agent-prune", bin_name = "deploy-agent prune")]
pub(crate) struct PruneArguments {
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) turn: TurnArguments,
    /// How many trees stay of those that were deployed before, the last ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) keep: u16,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "HOW")]
    pub(crate) output: Output,
}

/// Says what is deployed in a directory, what is being done there, and what is not deployed again.
///
/// It may be asked at any time, whether an agent runs or not.
#[derive(Debug, Parser)]
#[command(name = "deploy-agent-status", bin_name = "deploy-agent status")]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "HOW")]
    pub(crate) output: Output,
}

/// Clears the list of the releases that failed and are not deployed again.
///
/// An agent that runs tries at once what waited for that; else the next one does.
#[derive(Debug, Parser)]
#[command(name = "deploy-agent-retry", bin_name = "deploy-agent retry")]
pub(crate) struct RetryArguments {
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
}

/// Goes back to the release that was deployed before the present one, whose tree has to be there
/// still (see -keep).
///
/// An agent that runs does so at once, by its scripts; else the next one does. The present release
/// is not deployed again until `deploy-agent retry`; another one is, when the channel gets it.
#[derive(Debug, Parser)]
#[command(name = "deploy-agent-rollback", bin_name = "deploy-agent rollback")]
pub(crate) struct RollbackArguments {
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
}

/// Where the agent works.
#[derive(Debug, Args)]
pub(crate) struct PlaceArguments {
    /// Directory of the agent
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// File that its state is saved to [default: state.json in the directory of -dir]
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
}

/// How patient a verb is that does something in its own turn.
#[derive(Debug, Args)]
pub(crate) struct TurnArguments {
    /// How long to wait for the end of the step that the agent is in
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub(crate) wait: Duration,
}

/// For whom an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// For scripts
    Json,
}

/// What may stand first.
const NAMES: [&str; 8] = [
    "run", "once", "plan", "verify", "prune", "status", "retry", "rollback",
];

/// Returns the verb that stands first, behind the program's name, where one does.
pub(crate) fn named(arguments: &[OsString]) -> Option<&'static str> {
    let first = arguments.get(1)?;
    NAMES.into_iter().find(|name| first == name)
}

/// Returns what the arguments, the program's name first, ask for. Without a verb that is `run`,
/// as it was when there were none.
pub(crate) fn parse(mut arguments: Vec<OsString>) -> Result<Verb, clap::Error> {
    let verb = named(&arguments);
    if verb.is_some() {
        arguments.remove(1);
    }
    Ok(match verb.unwrap_or("run") {
        "plan" => Verb::Plan(Box::new(PlanArguments::try_parse_from(arguments)?)),
        "verify" => Verb::Verify(VerifyArguments::try_parse_from(arguments)?),
        "prune" => Verb::Prune(PruneArguments::try_parse_from(arguments)?),
        "status" => Verb::Status(StatusArguments::try_parse_from(arguments)?),
        "retry" => Verb::Retry(RetryArguments::try_parse_from(arguments)?),
        "rollback" => Verb::Rollback(RollbackArguments::try_parse_from(arguments)?),
        _ => {
            let line = arguments.clone();
            let mut arguments = Arguments::try_parse_from(arguments)?;
            arguments.once |= verb == Some("once");
            arguments.line = line;
            Verb::Run(Box::new(arguments))
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Verb, clap::Error> {
        let arguments = ["deploy-agent"].iter().chain(arguments).map(Into::into);
        super::parse(deploy_spec::arguments::normalise(arguments))
    }

    #[test]
    fn without_a_verb_a_configuration_is_followed() {
        for (arguments, expected) in [
            (&["-name", "x"][..], false),
            (&["-name", "x", "-once"], true),
            (&["run", "-name", "x"], false),
            (&["run", "-once", "-name=x"], true),
            (&["once", "-name", "x"], true),
        ] {
            let verb = parse(arguments).unwrap();
            let once = matches!(&verb, Verb::Run(arguments) if arguments.once);
            assert!(matches!(verb, Verb::Run(_)), "{arguments:?}");
            assert_eq!(once, expected, "{arguments:?}");
        }
        for wrong in [
            &[][..],
            &["run"],
            &["nothing", "-name", "x"],
            &["-name", "x", "status"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn other_verbs_name_a_place() {
        StatusArguments::command().debug_assert();
        RetryArguments::command().debug_assert();
        let status = parse(&["status", "-dir", "/srv/agent", "--output", "json"]).unwrap();
        assert!(
            matches!(&status, Verb::Status(status) if status.output == Output::Json
                && status.place.dir.as_os_str() == "/srv/agent")
        );
        let retry = parse(&["retry", "-state=/srv/state"]).unwrap();
        assert!(matches!(&retry, Verb::Retry(retry) if retry.place.state.is_some()));
        RollbackArguments::command().debug_assert();
        let rollback = parse(&["rollback", "-dir=x"]).unwrap();
        assert!(
            matches!(&rollback, Verb::Rollback(rollback) if rollback.place.dir.as_os_str() == "x")
        );
        for wrong in [
            &["status", "-name", "x"][..],
            &["status", "-output", "xml"],
            &["retry", "now"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
