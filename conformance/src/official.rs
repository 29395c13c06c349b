//! Runs the official suite (opencontainers/distribution-spec, `conformance/`) and holds it
//! to a stricter rule than its own: nothing may fail and nothing may be skipped.
//! Called by `main` for `conformance official`.
//!
//! The suite's exit status says too little: a configuration that it can not read ends with
//! 0, and so does a feature that the registry does not offer. So `results.yaml` decides,
//! and the tree of cases that it prints says which ones.

mod cases;
mod results;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::arguments::Official;
use crate::check::{Failure, Stop, Verdict};
use crate::content;
use crate::program::{self, Program};
use crate::report::print::Printer;
use crate::report::{Line, Outcome, Report};

/// Names the binary where it is not on `PATH` as [`BINARY`].
const VARIABLE: &str = "OCI_CONFORMANCE";
/// The suite's own name is `conformance`, which is ours too.
const BINARY: &str = "oci-conformance";
/// A whole run takes seconds on a local registry; far away it may take long.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Where the suite's binary is, or why it is not.
fn locate() -> Result<PathBuf, String> {
    match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        Some(value) => {
            let file = PathBuf::from(value);
            if program::is_executable(&file) {
                Ok(file)
            } else {
                let file = file.display();
                Err(format!("`{file}`, which {VARIABLE} names, is no program"))
            }
        }
        None => program::find(BINARY).ok_or(format!("no {VARIABLE}, no `{BINARY}` on PATH")),
    }
}

/// Runs the suite once a version of the specification.
pub(crate) async fn run(arguments: &Official, printer: &mut Printer) -> anyhow::Result<Report> {
    let mut report = Report::new("official", &arguments.common.url);
    let start = Instant::now();
    match locate() {
        Ok(binary) => {
            for version in &arguments.spec_version {
                let lines = once(&binary, version.as_str(), arguments, printer).await?;
                for line in lines {
                    printer.problem(&line);
                    report.lines.push(line);
                }
            }
        }
        Err(why) => {
            let reason = format!("official suite not installed: {why}");
            printer.note(&format!("skipped: {reason}"));
            let outcome = if arguments.require {
                Outcome::Failed(failure("the official suite", "it is installed", &why))
            } else {
                Outcome::Skipped(reason)
            };
            let line = Line::plain("official suite", "official", "", outcome, Duration::ZERO);
            report.lines.push(line);
        }
    }
    report.elapsed = start.elapsed();
    Ok(report)
}

/// One run, and a line for each case and for each summary that is not a pass.
async fn once(
    binary: &Path,
    version: &str,
    arguments: &Official,
    printer: &Printer,
) -> anyhow::Result<Vec<Line>> {
    let group = format!("official suite, version {version}");
    let directory = tempfile::tempdir()?;
    let start = Instant::now();
    let outcome = execute(binary, version, arguments, directory.path()).await;
    let lines = match outcome {
        Ok((cases, results)) => {
            let disabled = results.disabled();
            let mut note = format!("{group}: {} cases", cases.len());
            if !disabled.is_empty() {
                let names = disabled.join(", ");
                note.push_str(&format!("; not part of this version: {names}"));
            }
            printer.note(&note);
            judge(&group, &cases, &results)
        }
        Err(Stop::Fail(failure)) => {
            let elapsed = start.elapsed();
            vec![Line::plain(
                &group,
                version,
                "",
                Outcome::Failed(*failure),
                elapsed,
            )]
        }
        Err(Stop::Skip(reason)) => {
            let elapsed = start.elapsed();
            vec![Line::plain(
                &group,
                version,
                "",
                Outcome::Skipped(reason),
                elapsed,
            )]
        }
    };
    Ok(lines)
}

/// Runs the binary and reads what it left.
async fn execute(
    binary: &Path,
    version: &str,
    arguments: &Official,
    directory: &Path,
) -> Verdict<(Vec<cases::Case>, results::Results)> {
    let common = &arguments.common;
    let host = common.host();
    let tls = match (common.url.scheme(), common.insecure) {
        ("http", _) => "disabled",
        (_, true) => "insecure",
        (_, false) => "enabled",
    };
    let run = content::unique();
    let mut program = Program::new(binary, directory, LIMIT)
        .env("OCI_REGISTRY", &host)
        .env("OCI_TLS", tls)
        .env(
            "OCI_REPO1",
            format!("{}/{run}-official-1", common.repository),
        )
        .env(
            "OCI_REPO2",
            format!("{}/{run}-official-2", common.repository),
        )
        .env("OCI_VERSION", version)
        .env("OCI_DATA_SPARSE", "true")
        .env("OCI_RESULTS_DIR", directory);
    if let Some(username) = &common.username {
        program = program.env("OCI_USERNAME", username).env(
            "OCI_PASSWORD",
            common.password.as_deref().unwrap_or_default(),
        );
    }
    let (line, output) = program.output().await?;
    let file = directory.join("results.yaml");
    let text = std::fs::read_to_string(&file).map_err(|error| {
        let words = program::last_words(&output);
        let got = format!("{error} ({}, {words})", output.status);
        Stop::fail(line.clone(), "a results.yaml", got)
    })?;
    let results = results::parse(&text)
        .and_then(|results| results.of_run(&host, version).map(|()| results))
        .map_err(|got| Stop::fail(line, "a results.yaml of this run", got))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    Ok((cases::parse(&printed), results))
}

/// A line for each case, and one for each summary that no pass and no known case explains.
fn judge(group: &str, cases: &[cases::Case], results: &results::Results) -> Vec<Line> {
    let mut lines: Vec<Line> = cases
        .iter()
        .filter(|case| case.status != "Disabled")
        .map(|case| {
            let outcome = if case.status == "Pass" {
                Outcome::Passed
            } else {
                let got = format!("{} {}", case.status, case.reasons.join("; "));
                Outcome::Failed(failure(&case.name, "Pass", got.trim()))
            };
            Line::plain(group, &case.name, "", outcome, Duration::ZERO)
        })
        .collect();
    if lines.is_empty() {
        let outcome = Outcome::Failed(failure(group, "cases", "none were printed"));
        lines.push(Line::plain(group, "cases", "", outcome, Duration::ZERO));
    }
    for (name, status) in results.problems() {
        let outcome = Outcome::Failed(failure(&name, "Pass", &status));
        lines.push(Line::plain(
            group,
            name,
            "results.yaml",
            outcome,
            Duration::ZERO,
        ));
    }
    lines
}

fn failure(request: &str, expected: &str, got: &str) -> Failure {
    Failure {
        request: request.to_owned(),
        expected: expected.to_owned(),
        got: got.to_owned(),
        severe: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = "config: {registry: 'h:1', version: dev}\n\
        apis: {Ping: Pass, Blob anonymous mount: Skip, Blob upload cancel: Disabled}\n\
        data: {Image: Pass, Sparse Manifests: FAIL}\n";

    #[test]
    fn a_skip_in_the_summary_is_a_failure() {
        let results = results::parse(RESULTS).unwrap();
        let cases = cases::parse("Suite: Pass\n  Suite/ping: Pass\n");
        let lines = judge("official", &cases, &results);
        let failed: Vec<&str> = lines
            .iter()
            .filter(|line| matches!(line.outcome, Outcome::Failed(_)))
            .map(|line| line.id.as_str())
            .collect();
        assert_eq!(failed, ["Blob anonymous mount", "Sparse Manifests"]);
    }

    #[test]
    fn a_run_without_cases_is_a_failure() {
        let results = results::parse("config: {registry: h, version: dev}\napis: {}\ndata: {}\n");
        let lines = judge("official", &[], &results.unwrap());
        assert!(matches!(lines[0].outcome, Outcome::Failed(_)));
    }
}
