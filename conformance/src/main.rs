//! Checks and measures any OCI registry, given its address.

#![doc = include_str!("../README.md")]
//!
//! ## Map of the source
//! - `main` reads the command line (`arguments`), runs a suite and writes its `report`.
//! - `check` says what a check is; the tables stand in `checks`, one folder a category.
//! - `runner` runs our own suite; a check works in a `scope` through `http`
//!   and holds each `reply` against its rule.
//! - `official` and `clients` run other programs, by `program`, and report in the same form.
//! - `bench` is the load test; it shares only `glob` and `print` with the suites.

mod arguments;
mod auth;
mod bench;
mod check;
mod checks;
mod clients;
mod content;
mod digest;
mod glob;
mod http;
mod link;
mod observed;
mod official;
mod program;
mod reply;
mod report;
mod runner;
mod scope;
mod upload;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser as _;

use crate::arguments::{Arguments, Clients, Command, Common, List, Official, Run, SpecVersion};
use crate::check::Stop;
use crate::http::Registry;
use crate::report::Report;
use crate::report::print::{self, Printer};
use crate::runner::Plan;

/// Exit code of a command line that can not be carried out, as clap's own.
const USAGE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(run) => own(run).await,
        Command::Official(arguments) => official(&arguments).await,
        Command::Clients(arguments) => real_clients(&arguments).await,
        Command::Bench(bench) => bench::run(bench).await,
        Command::List(list) => Ok(enumerate(&list)),
    };
    outcome.unwrap_or_else(|error| {
        print::error(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// `conformance run`.
async fn own(arguments: Run) -> anyhow::Result<ExitCode> {
    let plan = Plan {
        repository: arguments.common.repository.clone(),
        only: arguments.only,
        released_only: arguments.spec_version == SpecVersion::V1_1_1,
        jobs: arguments.jobs,
        timeout: arguments.timeout,
    };
    let (checks, last) = (checks::all(), checks::last());
    if !checks.iter().chain(&last).any(|check| plan.chooses(check)) {
        print::error("`--only` fits no check; hint: `conformance list` shows them");
        return Ok(ExitCode::from(USAGE));
    }
    let registry = reach(&arguments.common).await?;
    let mut printer = Printer::new(arguments.common.output);
    let report = runner::run(&registry, &checks, &last, &plan, &mut printer).await;
    finish(&report, &arguments.common, &printer)
}

/// `conformance official`.
async fn official(arguments: &Official) -> anyhow::Result<ExitCode> {
    reach(&arguments.common).await?;
    let mut printer = Printer::new(arguments.common.output);
    let report = official::run(arguments, &mut printer).await?;
    finish(&report, &arguments.common, &printer)
}

/// `conformance clients`.
async fn real_clients(arguments: &Clients) -> anyhow::Result<ExitCode> {
    if !clients::any(arguments) {
        print::error("`--only` fits no check of a client");
        return Ok(ExitCode::from(USAGE));
    }
    let registry = reach(&arguments.common).await?;
    let mut printer = Printer::new(arguments.common.output);
    let report = clients::run(&registry, arguments, &mut printer).await?;
    finish(&report, &arguments.common, &printer)
}

/// `conformance list`.
fn enumerate(arguments: &List) -> ExitCode {
    let rows: Vec<Vec<String>> = checks::all()
        .into_iter()
        .chain(checks::last())
        .filter(|check| {
            arguments.only.is_empty()
                || arguments
                    .only
                    .iter()
                    .any(|only| glob::matches(only, check.id))
        })
        .map(|check| {
            vec![
                check.id.to_owned(),
                check.level.as_str().to_owned(),
                check.source.as_str().to_owned(),
                check.section.to_owned(),
                check.title.to_owned(),
            ]
        })
        .collect();
    print::table(&rows);
    ExitCode::SUCCESS
}

/// Opens the registry, and says early and in one line where there is none.
async fn reach(common: &Common) -> anyhow::Result<Registry> {
    let registry = Registry::new(common.url.clone(), common.credentials(), common.insecure)
        .context("prepare the HTTP client")?;
    match registry.request(::http::Method::GET, "/v2/").send().await {
        Ok(reply) if matches!(reply.status.as_u16(), 200 | 401) => Ok(registry),
        Ok(reply) => bail!(
            "`{}` is no registry: GET /v2/ answered {}",
            common.url,
            reply.status
        ),
        Err(Stop::Fail(failure)) => bail!("`{}` does not answer: {}", common.url, failure.got),
        Err(Stop::Skip(reason)) => bail!("{reason}"),
    }
}

/// Writes the report everywhere it is wanted; a failure in it is exit code 1.
fn finish(report: &Report, common: &Common, printer: &Printer) -> anyhow::Result<ExitCode> {
    if let Some(path) = &common.json {
        write(path, &report::json::document(report)?)?;
    }
    if let Some(path) = &common.junit {
        write(path, &report::junit::document(report)?)?;
    }
    printer.finish(report)?;
    Ok(match report.totals().failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("write `{}`", path.display()))
}
