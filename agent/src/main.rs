//! `deploy-agent`: a verb and flags → one runner, or one answer → an exit status.

mod arguments;
mod log;
mod origin;
mod settings;
mod unpacking;
mod verbs;

use std::{io::Write, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use deploy_agent::{
    Asked, Check, Deployer, Directory, Hook, Pauses, Runner, Script, Settings, Signal, Signals,
    Status,
    machine::{Exit, Mode, OnFailure},
};
use tokio::signal::unix::{self, SignalKind};

use arguments::Arguments;
use verbs::{Output, PlaceArguments, StatusArguments, Verb};

fn main() -> ExitCode {
    let arguments = deploy_spec::arguments::normalise(std::env::args_os());
    let verb = match verbs::parse(arguments) {
        Ok(verb) => verb,
        Err(error) => return log::usage(&error).into(),
    };
    let done = match &verb {
        Verb::Run(arguments) => {
            log::start(arguments.v);
            run(arguments)
        }
        Verb::Status(arguments) => status(arguments),
        Verb::Retry(arguments) => retry(&arguments.place),
        Verb::Rollback(arguments) => rollback(&arguments.place),
    };
    match done {
        Ok(Exit::Success) => ExitCode::SUCCESS,
        Ok(Exit::Failure) => ExitCode::FAILURE,
        Err(error) => {
            log::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn status(arguments: &StatusArguments) -> Result<Exit> {
    let PlaceArguments { dir, state } = &arguments.place;
    let status = Status::load(dir, state.as_deref())?;
    let text = match arguments.output {
        Output::Text => status.to_string(),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&status)?),
    };
    say(&text)
}

fn retry(place: &PlaceArguments) -> Result<Exit> {
    let (asked, count) = deploy_agent::retry(&place.dir, place.state.as_deref())?;
    let releases = match count {
        0 => "no release is bad".to_owned(),
        1 => "one release may be deployed again".to_owned(),
        count => format!("{count} releases may be deployed again"),
    };
    say(&format!("{releases}; {}\n", who(asked)))
}

fn rollback(place: &PlaceArguments) -> Result<Exit> {
    let (asked, [from, to]) = deploy_agent::rollback(&place.dir, place.state.as_deref())?;
    say(&format!("going back from {from} to {to}; {}\n", who(asked)))
}

fn who(asked: Asked) -> String {
    match asked {
        Asked::Agent(pid) => format!("the agent (pid {pid}) is at it"),
        Asked::TheNext => "no agent runs, the next one will see to it".to_owned(),
    }
}

fn say(text: &str) -> Result<Exit> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).context("cannot answer")?;
    stdout.flush().context("cannot answer")?;
    Ok(Exit::Success)
}

fn run(arguments: &Arguments) -> Result<Exit> {
    // One thread waits; what blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let exit = runtime.block_on(follow(arguments));
    // After a second signal an operation may still be blocked.
    runtime.shutdown_background();
    exit
}

async fn follow(arguments: &Arguments) -> Result<Exit> {
    let signals = Told::listen()?;
    let notify = settings::notify();
    let open = |hook, path| {
        let script = Script::open(hook, path, std::env::vars_os())?;
        anyhow::Ok(script.limited(arguments.script_timeout.0))
    };
    let script = open(Hook::Script, &arguments.script)?;
    let prepare = arguments.prepare.as_deref();
    let prepare = prepare.map(|path| open(Hook::Prepare, path)).transpose()?;
    let check = arguments.check.as_deref();
    let check = check.map(|path| open(Hook::Check, path)).transpose()?;
    let check = check.map(|script| Check::new(script, arguments.check_timeout, arguments.soak));
    let directory = Arc::new(Directory::open(&arguments.dir, arguments.state.as_deref())?);
    let source = Arc::new(settings::source(arguments)?);
    let settings = Settings {
        configuration: arguments.name.clone(),
        channel: arguments.channel.to_string(),
        prepare,
        script,
        check,
        unpacking: arguments.unpacking.options(),
        keep: arguments.keep(),
        reserve: arguments.reserve,
        clock: jiff::Timestamp::now,
    };
    tracing::info!(
        source = %arguments.addr,
        configuration = %arguments.name,
        channel = %arguments.channel,
        directory = %directory.path().display(),
        "deploy-agent {}",
        env!("CARGO_PKG_VERSION")
    );
    let deployer = Arc::new(Deployer::new(Arc::clone(&source), directory, settings));
    let mode = if arguments.once {
        Mode::Once
    } else {
        Mode::Follow
    };
    let on_failure = if arguments.rollback {
        OnFailure::Undo
    } else {
        OnFailure::Retry
    };
    let pauses = Pauses::new(arguments.poll);
    let runner = Runner::new(source, deployer, mode, on_failure, pauses).telling(notify.clone());
    notify.ready();
    tokio::select! {
        exit = runner.run(signals) => Ok(exit),
        () = notify.stay_alive() => unreachable!("it never returns"),
    }
}

/// SIGTERM and SIGINT end the agent, SIGHUP has it look for what it is asked for.
struct Told {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hang_up: unix::Signal,
}

impl Told {
    fn listen() -> Result<Self> {
        let listen = |kind| unix::signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }
}

impl Signals for Told {
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
            _ = self.hang_up.recv() => Signal::Look,
        }
    }
}
