//! A report as JUnit XML, for build servers.

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use super::{Line, Outcome, Report};

/// The whole report, one test suite a group.
pub(crate) fn document(report: &Report) -> Result<String, quick_junit::SerializeError> {
    let mut document = Document::new(format!("conformance {}", report.suite));
    document.set_time(report.elapsed);
    let mut groups: Vec<TestSuite> = Vec::new();
    for line in &report.lines {
        let at = groups
            .iter()
            .position(|suite| suite.name.as_str() == line.group);
        let at = at.unwrap_or_else(|| {
            groups.push(TestSuite::new(&line.group));
            groups.len() - 1
        });
        groups[at].add_test_case(case(line));
    }
    document.add_test_suites(groups);
    document.to_string()
}

fn case(line: &Line) -> TestCase {
    let status = match &line.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Skipped(reason) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason);
            status
        }
        Outcome::Failed(failure) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(format!("expected {}", failure.expected));
            status.set_description(format!(
                "request: {}\nexpected: {}\ngot: {}",
                failure.request, failure.expected, failure.got
            ));
            status
        }
    };
    let mut case = TestCase::new(&line.id, status);
    case.set_classname(&line.group);
    case.set_time(line.elapsed);
    if !line.section.is_empty() {
        let rule = format!("{} {}: {}", line.level, line.source, line.section);
        case.add_property(("rule", rule.as_str()));
    }
    case
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn the_document_counts_and_escapes() {
        let text = document(&sample()).unwrap();
        assert!(
            text.contains(r#"tests="4" skipped="2" errors="0" failures="1""#),
            "{text}"
        );
        assert!(text.contains("&lt;404&gt; &amp; more"), "{text}");
    }
}
