//! A report as JSON, for scripts.

use serde_json::{Value, json};

use super::{Line, Outcome, Report};

/// The whole report as one indented document.
pub(crate) fn document(report: &Report) -> serde_json::Result<String> {
    let checks: Vec<Value> = report.lines.iter().map(line).collect();
    serde_json::to_string_pretty(&json!({
        "suite": report.suite,
        "registry": report.registry,
        "started": humantime::format_rfc3339_seconds(report.started).to_string(),
        "seconds": report.elapsed.as_secs_f64(),
        "totals": report.totals(),
        "checks": checks,
    }))
}

fn line(line: &Line) -> Value {
    let mut value = json!({
        "id": line.id,
        "group": line.group,
        "title": line.title,
        "seconds": line.elapsed.as_secs_f64(),
    });
    for (name, text) in [
        ("level", line.level),
        ("version", line.source),
        ("section", line.section),
    ] {
        if !text.is_empty() {
            value[name] = json!(text);
        }
    }
    match &line.outcome {
        Outcome::Passed => value["outcome"] = json!("passed"),
        Outcome::Skipped(reason) => {
            value["outcome"] = json!("skipped");
            value["reason"] = json!(reason);
        }
        Outcome::Failed(failure) => {
            value["outcome"] = json!("failed");
            value["failure"] = json!(failure);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn the_document_holds_every_outcome() {
        let value: Value = serde_json::from_str(&document(&sample()).unwrap()).unwrap();
        assert_eq!(
            value["totals"],
            json!({"passed": 1, "failed": 1, "skipped": 2})
        );
        assert_eq!(value["checks"][1]["failure"]["expected"], "200");
        assert_eq!(value["checks"][3]["reason"], "not offered");
        assert_eq!(value["checks"][0]["version"], "1.1.1");
    }
}
