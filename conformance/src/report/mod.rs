//! Results of any of the suites, and their forms: a list to read, JSON, JUnit.
//! The runners fill a [`Report`]; `main` writes it.

pub(crate) mod json;
pub(crate) mod junit;
pub(crate) mod print;

use std::time::{Duration, SystemTime};

use crate::check::{Check, Failure, Stop, Verdict};

/// What became of one check.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Passed,
    Skipped(String),
    Failed(Failure),
}

/// One check and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) id: String,
    /// The heading that it is printed under.
    pub(crate) group: String,
    pub(crate) title: String,
    /// Level and source of the rule, empty where a suite has none.
    pub(crate) level: &'static str,
    pub(crate) source: &'static str,
    pub(crate) section: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) elapsed: Duration,
}

impl Line {
    /// The line of a check of our own suite.
    ///
    /// A SHOULD or MAY that is not followed is a skip that says so; a severe failure
    /// (no answer, a 5xx, a preparation that did not succeed) is one at every level.
    pub(crate) fn of(check: &Check, verdict: Verdict, elapsed: Duration) -> Self {
        use crate::check::Level;
        let outcome = match verdict {
            Ok(()) => Outcome::Passed,
            Err(Stop::Skip(reason)) => Outcome::Skipped(reason),
            Err(Stop::Fail(failure)) if check.level == Level::Must || failure.severe => {
                Outcome::Failed(*failure)
            }
            Err(Stop::Fail(failure)) => Outcome::Skipped(format!(
                "{} not followed: {} expected {}, got {}",
                check.level.as_str(),
                failure.request,
                failure.expected,
                failure.got
            )),
        };
        Self {
            id: check.id.to_owned(),
            group: check.category().heading().to_owned(),
            title: check.title.to_owned(),
            level: check.level.as_str(),
            source: check.source.as_str(),
            section: check.section,
            outcome,
            elapsed,
        }
    }

    /// A line of a suite whose rules have no level.
    pub(crate) fn plain(
        group: &str,
        id: impl Into<String>,
        title: impl Into<String>,
        outcome: Outcome,
        elapsed: Duration,
    ) -> Self {
        Self {
            id: id.into(),
            group: group.to_owned(),
            title: title.into(),
            level: "",
            source: "",
            section: "",
            outcome,
            elapsed,
        }
    }
}

/// How many of each outcome there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Totals {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// A whole run of one suite.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// `run`, `official` or `clients`.
    pub(crate) suite: &'static str,
    pub(crate) registry: String,
    pub(crate) started: SystemTime,
    pub(crate) elapsed: Duration,
    pub(crate) lines: Vec<Line>,
}

impl Report {
    /// An empty report that begins now.
    pub(crate) fn new(suite: &'static str, registry: &url::Url) -> Self {
        Self {
            suite,
            registry: registry.to_string(),
            started: SystemTime::now(),
            elapsed: Duration::ZERO,
            lines: Vec::new(),
        }
    }

    /// Counts the outcomes.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for line in &self.lines {
            match line.outcome {
                Outcome::Passed => totals.passed += 1,
                Outcome::Skipped(_) => totals.skipped += 1,
                Outcome::Failed(_) => totals.failed += 1,
            }
        }
        totals
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::check::{Level, Source};

    fn check(level: Level) -> Check {
        Check {
            id: "pull.some.check",
            level,
            source: Source::V1_1_1,
            section: "Pulling blobs",
            title: "a rule",
            run: |_| Box::pin(async { Ok(()) }),
        }
    }

    /// A report with one line of each outcome.
    pub(crate) fn sample() -> Report {
        let mut report = Report::new("run", &url::Url::parse("http://h:1/").unwrap());
        for (level, verdict) in [
            (Level::Must, Ok(())),
            (
                Level::Must,
                Err(Stop::fail("GET /v2/", "200", "<404> & more")),
            ),
            (Level::Should, Err(Stop::fail("GET /v2/", "200", "404"))),
            (Level::May, Err(Stop::skip("not offered"))),
        ] {
            report.lines.push(Line::of(
                &check(level),
                verdict,
                Duration::from_millis(1500),
            ));
        }
        report
    }

    #[test]
    fn only_a_broken_must_is_a_failure() {
        let totals = sample().totals();
        assert_eq!((totals.passed, totals.failed, totals.skipped), (1, 1, 2));
    }

    #[test]
    fn no_level_excuses_a_severe_failure() {
        let stop = Stop::fail("PUT", "201", "500").while_preparing("push");
        let line = Line::of(&check(Level::May), Err(stop), Duration::ZERO);
        assert!(matches!(line.outcome, Outcome::Failed(_)));
    }

    #[test]
    fn a_skip_names_the_level_that_was_not_followed() {
        let report = sample();
        let Outcome::Skipped(reason) = &report.lines[2].outcome else {
            panic!("{:?}", report.lines[2]);
        };
        assert!(
            reason.starts_with("SHOULD not followed: GET /v2/"),
            "{reason}"
        );
    }
}
