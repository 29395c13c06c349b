//! `deploy-agent`: a verb and flags → one runner, or one answer → an exit status.

mod arguments;
mod configurations;
mod exposition;
mod follow;
mod log;
mod origin;
mod settings;
mod told;
mod unpacking;
mod verbs;

use std::{fmt::Display, io::Write, process::ExitCode};

use anyhow::{Context, Result};
use deploy_agent::{
    Asked, Extra, Fetching, Host, Plan, Planning, Pruned, Pruning, Signal, Signals, Status, Stop,
    Verified, Verifying, machine::Exit,
};
use deployctl::report::Report;
use serde::Serialize;

use arguments::Arguments;
use told::Told;
use verbs::{
    ExtraNames, Output, PlaceArguments, PlanArguments, PruneArguments, StatusArguments,
    TurnArguments, Verb, VerifyArguments,
};

/// The exit status of a verb that was to find no difference and has found some.
const DIFFERENT: u8 = 3;

fn main() -> ExitCode {
    let arguments = deploy_spec::arguments::normalise(std::env::args_os());
    let named = verbs::named(&arguments);
    let verb = match verbs::parse(arguments) {
        Ok(verb) => verb,
        Err(error) => return log::usage(&error, named).into(),
    };
    let done: Result<ExitCode> = match &verb {
        Verb::Run(arguments) => {
            log::start(arguments.v);
            run(arguments).map(|exit| match exit {
                Exit::Success => ExitCode::SUCCESS,
                Exit::Failure => ExitCode::FAILURE,
            })
        }
        Verb::Plan(arguments) => {
            log::start(arguments.run.v);
            plan(arguments)
        }
        Verb::Verify(arguments) => {
            log::start(false);
            verify(arguments)
        }
        Verb::Prune(arguments) => prune(arguments),
        Verb::Status(arguments) => status(arguments),
        Verb::Retry(arguments) => retry(&arguments.place),
        Verb::Rollback(arguments) => rollback(&arguments.place),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            log::complain(&Report::new(error.as_ref()).to_string());
            ExitCode::FAILURE
        }
    }
}

fn plan(arguments: &PlanArguments) -> Result<ExitCode> {
    let run = &arguments.run;
    let source = settings::source(run, run.single()?)?;
    let gate = settings::gate(run, run.single()?)?;
    let planning = Planning {
        host: Host {
            directory: &run.dir,
            state: run.state.as_deref(),
            wait: arguments.turn.wait,
        },
        configuration: run.single()?,
        channel: run.channel.as_ref(),
        unpacking: &run.unpacking.options(),
        gate: gate.as_ref(),
        clock: jiff::Timestamp::now,
        fetching: match arguments.no_fetch {
            true => Fetching::Refused,
            false => Fetching::Allowed,
        },
    };
    let plan = runtime()?.block_on(Plan::make(&source, &planning))?;
    answer(arguments.output, &plan)?;
    Ok(match arguments.exit_code && plan.changes_something() {
        true => DIFFERENT.into(),
        false => ExitCode::SUCCESS,
    })
}

fn verify(arguments: &VerifyArguments) -> Result<ExitCode> {
    let PlaceArguments { dir, state } = &arguments.place;
    let verifying = Verifying {
        host: host(&arguments.place, &arguments.turn),
        extra: match arguments.extra {
            ExtraNames::List => Extra::List,
            ExtraNames::Ignore => Extra::Ignore,
            ExtraNames::Remove => Extra::Remove,
        },
        repair: arguments.repair,
    };
    let configuration = Status::load(dir, state.as_deref())?;
    let run = match configuration.configuration() {
        Some(name) => arguments.source.run(name)?,
        None => None,
    };
    let source = run.as_ref().map(|run| settings::source(run, run.single()?));
    let source = source.transpose()?;
    let stop = Stop::default();
    let verified = runtime()?.block_on(async {
        let mut signals = Told::listen()?;
        let verifying = Verified::make(source.as_ref(), &verifying, &stop);
        tokio::pin!(verifying);
        loop {
            tokio::select! {
                verified = &mut verifying => return anyhow::Ok(verified?),
                // What is half done is put away.
                Signal::End = signals.next() => stop.stop(),
            }
        }
    })?;
    answer(arguments.output, &verified)?;
    Ok(match verified.drifts() {
        true => DIFFERENT.into(),
        false => ExitCode::SUCCESS,
    })
}

fn host<'a>(place: &'a PlaceArguments, turn: &TurnArguments) -> Host<'a> {
    Host {
        directory: &place.dir,
        state: place.state.as_deref(),
        wait: turn.wait,
    }
}

fn prune(arguments: &PruneArguments) -> Result<ExitCode> {
    let pruned = Pruned::make(&Pruning {
        host: host(&arguments.place, &arguments.turn),
        keep: arguments.keep.into(),
        dry_run: arguments.dry_run,
    })?;
    answer(arguments.output, &pruned)?;
    Ok(ExitCode::SUCCESS)
}

/// Answers for people or for scripts.
fn answer(output: Output, answer: &(impl Display + Serialize)) -> Result<()> {
    let text = match output {
        Output::Text => answer.to_string(),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(answer)?),
    };
    say(&text)
}

fn status(arguments: &StatusArguments) -> Result<ExitCode> {
    let PlaceArguments { dir, state } = &arguments.place;
    let status = Status::load(dir, state.as_deref())?;
    answer(arguments.output, &status)?;
    Ok(ExitCode::SUCCESS)
}

fn retry(place: &PlaceArguments) -> Result<ExitCode> {
    let (asked, count) = deploy_agent::retry(&place.dir, place.state.as_deref())?;
    let releases = match count {
        0 => "no release is bad".to_owned(),
        1 => "one release may be deployed again".to_owned(),
        count => format!("{count} releases may be deployed again"),
    };
    say(&format!("{releases}; {}\n", who(asked)))?;
    Ok(ExitCode::SUCCESS)
}

fn rollback(place: &PlaceArguments) -> Result<ExitCode> {
    let (asked, [from, to]) = deploy_agent::rollback(&place.dir, place.state.as_deref())?;
    say(&format!("going back from {from} to {to}; {}\n", who(asked)))?;
    Ok(ExitCode::SUCCESS)
}

fn who(asked: Asked) -> String {
    match asked {
        Asked::Agent(pid) => format!("the agent (pid {pid}) is at it"),
        Asked::TheNext => "no agent runs, the next one will see to it".to_owned(),
    }
}

fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).context("cannot answer")?;
    stdout.flush().context("cannot answer")
}

fn run(arguments: &Arguments) -> Result<Exit> {
    let runtime = runtime()?;
    let exit = runtime.block_on(follow::follow(&configurations::expand(arguments)?));
    // After a second signal an operation may still be blocked.
    runtime.shutdown_background();
    exit
}

/// One thread waits; what blocks has threads of its own.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
}
