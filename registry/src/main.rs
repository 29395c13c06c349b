//! The program `deploy-registry`: arguments → one verb → an exit code.
//!
//! `arguments` is what a person may type, `commands` has a file for each verb, `storage` opens
//! what all verbs work on, `log`, `traces`, `notify` and `printer` are the only places that say
//! anything.

mod arguments;
mod commands;
mod log;
mod notify;
mod printer;
mod reload;
mod storage;
mod traces;
mod trust;
mod watched;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = deploy_spec::arguments::normalise(std::env::args_os());
    match commands::run(Arguments::parse_from(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => printer::failure(&error),
    }
}
