//! `deploy-agent`: flags → one runner → an exit status.

mod arguments;
mod log;
mod origin;
mod settings;
mod unpacking;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use clap::Parser;
use deploy_agent::{
    Deployer, Directory, Pauses, Runner, Script, Settings, Signals,
    machine::{Exit, Mode},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = deploy_spec::arguments::normalise(std::env::args_os());
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return log::usage(&error).into(),
    };
    log::start(arguments.v);
    match run(&arguments) {
        Ok(Exit::Success) => ExitCode::SUCCESS,
        Ok(Exit::Failure) => ExitCode::FAILURE,
        Err(error) => {
            log::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
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
    let signals = Ending::listen()?;
    let script =
        Script::open(&arguments.script, std::env::vars_os())?.limited(arguments.script_timeout.0);
    let directory = Arc::new(Directory::open(&arguments.dir, arguments.state.as_deref())?);
    let source = Arc::new(settings::source(arguments)?);
    let settings = Settings {
        configuration: arguments.name.clone(),
        channel: arguments.channel.to_string(),
        script,
        unpacking: arguments.unpacking.options(),
        clean_old: arguments.cleanold,
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
    let runner = Runner::new(source, deployer, mode, Pauses::new(arguments.poll));
    Ok(runner.run(signals).await)
}

/// SIGTERM and SIGINT.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }
}

impl Signals for Ending {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
