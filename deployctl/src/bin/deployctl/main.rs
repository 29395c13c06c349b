//! `deployctl`: flags → one operation of the library → print.
//!
//! `arguments` is what a person may type, `settings` what that means together with the
//! environment, `commands` has a file for each verb, `printer` is the only place that writes to
//! the terminal.

mod arguments;
mod commands;
mod moment;
mod printer;
mod progress;
mod prompt;
mod settings;
mod table;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
use printer::Printer;

fn main() -> ExitCode {
    let arguments = deploy_spec::arguments::normalise(std::env::args_os());
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return printer::usage(&error),
    };
    start_log();
    let printer = Printer::new(arguments.global.output);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return printer::failure(&anyhow::Error::new(error).context("start")),
    };
    match runtime.block_on(commands::run(arguments, &printer)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => printer::failure(&error),
    }
}

/// Logs go to stderr, and only when `RUST_LOG` asks for them: stderr is for what a person
/// should read.
fn start_log() {
    let Ok(filter) = tracing_subscriber::EnvFilter::try_from_default_env() else {
        return;
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}
