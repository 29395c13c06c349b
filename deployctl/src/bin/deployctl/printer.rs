//! The only place that writes to the terminal: results to stdout, failures to stderr.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use deployctl::report::Report;
use serde::Serialize;

use crate::arguments::Output;

/// Prints results in the form that was asked for.
pub(crate) struct Printer {
    output: Output,
}

/// Where it stands how the program is used.
const HELP: &str = "see `deployctl --help`";

/// A command line that cannot mean anything, found after clap was content with it.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) &'static str);

impl std::fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.0)
    }
}

impl Error for UsageError {}

impl Printer {
    pub(crate) fn new(output: Output) -> Self {
        Self { output }
    }

    /// Prints a result: its JSON, or what `text` makes of it.
    pub(crate) fn result<T: Serialize>(
        &self,
        result: &T,
        text: impl FnOnce(&T) -> String,
    ) -> io::Result<()> {
        let printed = match self.output {
            Output::Text => text(result),
            Output::Json => {
                let mut json = serde_json::to_string_pretty(result)?;
                json.push('\n');
                json
            }
        };
        print(printed.as_bytes())
    }
}

/// Writes to stdout. That nobody reads to the end (`| head`) is no failure.
pub(crate) fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints why the verb failed, in one line with its causes, and a hint below it where one of
/// them has one.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    complain(&Report::new(error.as_ref()));
    match error.is::<UsageError>() {
        true => ExitCode::from(2),
        false => ExitCode::FAILURE,
    }
}

/// Prints what clap has to say: help and version to stdout, a wrong command line as one line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return match error.print() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Nothing was asked for: the help is the answer, and it is not success.
            drop(error.print());
            return ExitCode::from(2);
        }
        _ => {}
    }
    let report = match (error.source(), error.get(ContextKind::InvalidArg)) {
        (Some(source), Some(ContextValue::String(argument))) => {
            Report::of_value(argument, source, HELP)
        }
        _ => Report::of_usage(&error.render().to_string(), HELP),
    };
    complain(&report);
    ExitCode::from(2)
}

fn complain(report: &Report) {
    // Where stderr is closed, the exit status has to do.
    drop(
        io::stderr()
            .lock()
            .write_all(format!("deployctl: {report}\n").as_bytes()),
    );
}
