//! Runs our own suite: chooses checks, runs several at a time, reports in table order.
//! Called by `main` for `conformance run`.

use std::time::{Duration, Instant};

use futures::StreamExt as _;

use crate::check::{Check, Source, Stop, Verdict};
use crate::glob;
use crate::http::Registry;
use crate::report::print::Printer;
use crate::report::{Line, Report};
use crate::scope::Scope;

/// Which checks run, and how.
pub(crate) struct Plan {
    /// The first part of the name of every repository that is made.
    pub(crate) repository: String,
    /// Patterns, of which one must fit; none chooses everything.
    pub(crate) only: Vec<String>,
    /// Leaves out what only the next version of the specification asks for.
    pub(crate) released_only: bool,
    /// How many checks run at a time.
    pub(crate) jobs: usize,
    /// How long one check may take.
    pub(crate) timeout: Duration,
}

impl Plan {
    /// True where the plan runs `check`.
    pub(crate) fn chooses(&self, check: &Check) -> bool {
        let wanted = self.only.is_empty()
            || self
                .only
                .iter()
                .any(|pattern| glob::matches(pattern, check.id));
        wanted && !(self.released_only && check.source == Source::Main)
    }
}

/// Runs `checks`, and then `last`, which look at what all the answers have shown.
pub(crate) async fn run(
    registry: &Registry,
    checks: &[&Check],
    last: &[&Check],
    plan: &Plan,
    printer: &mut Printer,
) -> Report {
    let mut report = Report::new("run", registry.base());
    let start = Instant::now();
    let run = crate::content::unique();
    for part in [checks, last] {
        let mut lines = futures::stream::iter(part.iter().filter(|check| plan.chooses(check)))
            .map(|check| perform(registry.clone(), check, plan, &run))
            .buffered(plan.jobs.max(1));
        while let Some(line) = lines.next().await {
            printer.line(&line);
            report.lines.push(line);
        }
    }
    report.elapsed = start.elapsed();
    report
}

async fn perform(registry: Registry, check: &Check, plan: &Plan, run: &str) -> Line {
    let name = format!("{}/{run}-{}", plan.repository, slug(check.id));
    let start = Instant::now();
    let verdict: Verdict =
        tokio::time::timeout(plan.timeout, (check.run)(Scope::new(registry, name)))
            .await
            .unwrap_or_else(|_| {
                Err(Stop::fail(
                    "the whole check",
                    "an end",
                    format!("none after {:?}", plan.timeout),
                )
                .while_preparing("it ran too long"))
            });
    Line::of(check, verdict, start.elapsed())
}

/// An identifier as part of a repository name.
fn slug(id: &str) -> String {
    id.replace('.', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_chooses_by_pattern_and_version() {
        let mut plan = Plan {
            repository: "r".into(),
            only: vec!["pull.*".into()],
            released_only: false,
            jobs: 1,
            timeout: Duration::ZERO,
        };
        let all = crate::checks::all();
        assert!(
            all.iter()
                .any(|check| check.source == Source::Main && plan.chooses(check))
        );
        assert!(
            !all.iter()
                .any(|check| check.id.starts_with("push.") && plan.chooses(check))
        );
        plan.released_only = true;
        assert!(
            !all.iter()
                .any(|check| check.source == Source::Main && plan.chooses(check))
        );
    }
}
