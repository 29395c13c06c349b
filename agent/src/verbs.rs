//! The verb that a person types first, and what may follow it. Parsed by `main`.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, ValueEnum};

use crate::arguments::Arguments;

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Verb {
    /// Follow a configuration, or look once.
    Run(Box<Arguments>),
    /// Say what is deployed.
    Status(StatusArguments),
    /// Try again what failed.
    Retry(RetryArguments),
    /// Go back to what was deployed before.
    Rollback(RollbackArguments),
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

/// For whom an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// For scripts
    Json,
}

/// Returns what the arguments, the program's name first, ask for. Without a verb that is `run`,
/// as it was when there were none.
pub(crate) fn parse(mut arguments: Vec<OsString>) -> Result<Verb, clap::Error> {
    let verb = arguments.get(1).and_then(|verb| verb.to_str());
    let verb = verb.unwrap_or_default().to_owned();
    let named = matches!(&*verb, "run" | "once" | "status" | "retry" | "rollback");
    if named {
        arguments.remove(1);
    }
    Ok(match &*verb {
        "status" => Verb::Status(StatusArguments::try_parse_from(arguments)?),
        "retry" => Verb::Retry(RetryArguments::try_parse_from(arguments)?),
        "rollback" => Verb::Rollback(RollbackArguments::try_parse_from(arguments)?),
        _ => {
            let mut arguments = Arguments::try_parse_from(arguments)?;
            arguments.once |= verb == "once";
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
