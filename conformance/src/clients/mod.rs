//! Runs the clients that people use against the registry: images, indexes and artifacts are
//! pushed and pulled, tags listed, content inspected, copied and deleted, and everything is
//! compared by digest. Called by `main` for `conformance clients`.
//!
//! Content to pull is pushed by our own requests and content that was pushed is looked at by
//! them, so that no client vouches for itself.

mod bench;
mod crane;
mod layout;
mod oras;
mod podman;
mod regctl;
mod skopeo;

use std::time::Instant;

use futures::StreamExt as _;
use futures::future::BoxFuture;

use self::bench::Bench;
use crate::arguments::Clients;
use crate::check::{Failure, Stop, Verdict};
use crate::glob;
use crate::http::Registry;
use crate::program;
use crate::report::print::Printer;
use crate::report::{Line, Outcome, Report};

/// One thing that one client does.
struct ClientCheck {
    /// The program's name, and the first segment of the identifier.
    client: &'static str,
    /// The rest of the identifier.
    name: &'static str,
    title: &'static str,
    run: fn(Bench) -> BoxFuture<'static, Verdict>,
}

impl ClientCheck {
    fn id(&self) -> String {
        format!("{}.{}", self.client, self.name)
    }
}

/// Makes the table `CHECKS` of a client's file, a row a check.
macro_rules! client_checks {
    ($client:literal { $($name:literal $run:ident: $title:literal;)* }) => {
        /// What this client does, in the order of the report.
        pub(super) const CHECKS: &[$crate::clients::ClientCheck] = &[$(
            $crate::clients::ClientCheck {
                client: $client,
                name: $name,
                title: $title,
                run: |bench| Box::pin($run(bench)),
            },
        )*];
    };
}
use client_checks;

fn all() -> impl Iterator<Item = &'static ClientCheck> {
    [
        skopeo::CHECKS,
        crane::CHECKS,
        oras::CHECKS,
        regctl::CHECKS,
        podman::CHECKS,
    ]
    .into_iter()
    .flatten()
}

fn chosen(arguments: &Clients) -> Vec<&'static ClientCheck> {
    let only = &arguments.only;
    all()
        .filter(|check| only.is_empty() || only.iter().any(|only| glob::matches(only, &check.id())))
        .collect()
}

/// True where `--only` fits something.
pub(crate) fn any(arguments: &Clients) -> bool {
    !chosen(arguments).is_empty()
}

/// Runs every chosen check, several at a time, and reports them in order.
pub(crate) async fn run(
    registry: &Registry,
    arguments: &Clients,
    printer: &mut Printer,
) -> anyhow::Result<Report> {
    let mut report = Report::new("clients", registry.base());
    let start = Instant::now();
    let run = crate::content::unique();
    let required =
        arguments.require_clients || std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let mut lines = futures::stream::iter(chosen(arguments))
        .map(|check| perform(registry.clone(), check, arguments, &run, required))
        .buffered(arguments.jobs.max(1));
    while let Some(line) = lines.next().await {
        let line = line?;
        printer.line(&line);
        report.lines.push(line);
    }
    drop(lines);
    report.elapsed = start.elapsed();
    Ok(report)
}

async fn perform(
    registry: Registry,
    check: &ClientCheck,
    arguments: &Clients,
    run: &str,
    required: bool,
) -> anyhow::Result<Line> {
    let start = Instant::now();
    let verdict = match program::find(check.client) {
        None => {
            let reason = format!("`{}` is not installed", check.client);
            if required {
                Err(Stop::fail(check.client, "a program on PATH", reason))
            } else {
                Err(Stop::skip(reason))
            }
        }
        Some(file) => {
            let repository = format!(
                "{}/{run}-{}-{}",
                arguments.common.repository, check.client, check.name
            );
            let bench = Bench::new(registry, &arguments.common, file, repository)?;
            (check.run)(bench).await
        }
    };
    let outcome = match verdict {
        Ok(()) => Outcome::Passed,
        Err(Stop::Skip(reason)) => Outcome::Skipped(reason),
        Err(Stop::Fail(failure)) => Outcome::Failed(Failure { ..*failure }),
    };
    Ok(Line::plain(
        check.client,
        check.id(),
        check.title,
        outcome,
        start.elapsed(),
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::all;

    #[test]
    fn identifiers_are_unique() {
        let mut seen = BTreeSet::new();
        for check in all() {
            assert!(seen.insert(check.id()), "{}", check.id());
        }
    }
}
