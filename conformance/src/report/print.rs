//! The list that people read, written line by line while a suite runs.
//! The only file that writes to standard output and error.

use std::io::Write as _;

use super::{Line, Outcome, Report, Totals};

/// What goes to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// A list to read.
    #[default]
    Text,
    /// The whole report as one JSON document.
    Json,
}

/// Prints lines as they come, under a heading where their group changes.
pub(crate) struct Printer {
    output: Output,
    group: String,
}

impl Printer {
    /// A printer that has not written anything yet.
    pub(crate) fn new(output: Output) -> Self {
        Self {
            output,
            group: String::new(),
        }
    }

    /// Prints one line in the readable form.
    pub(crate) fn line(&mut self, line: &Line) {
        if self.output != Output::Text {
            return;
        }
        if self.group != line.group {
            self.group.clone_from(&line.group);
            write(&format!("\n{}\n", line.group));
        }
        write(&text(line));
    }

    /// Prints a line that is no pass; for suites with very many cases.
    pub(crate) fn problem(&mut self, line: &Line) {
        if !matches!(line.outcome, Outcome::Passed) {
            self.line(line);
        }
    }

    /// Says something beside the results.
    pub(crate) fn note(&self, message: &str) {
        if self.output == Output::Text {
            write(&format!("{message}\n"));
        }
    }

    /// Ends the output: totals, or the document.
    pub(crate) fn finish(&self, report: &Report) -> anyhow::Result<()> {
        match self.output {
            Output::Text => {
                let seconds = report.elapsed.as_secs_f64();
                // Scripts read the last line; nothing else may stand on it.
                write(&format!(
                    "\nin {seconds:.1} s\n{}\n",
                    totals(report.totals())
                ));
            }
            Output::Json => write(&format!("{}\n", super::json::document(report)?)),
        }
        Ok(())
    }
}

/// Says on standard error, in one line, why the program ends.
pub(crate) fn error(message: &str) {
    let line = message.replace('\n', " ");
    drop(writeln!(std::io::stderr(), "conformance: {line}"));
}

/// Says on standard error how far a long run is.
pub(crate) fn progress(message: &str) {
    drop(writeln!(std::io::stderr(), "{message}"));
}

/// Writes a table of rows with columns of even width.
pub(crate) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        write(&format!("{}\n", line.trim_end()));
    }
}

/// `N passed, N failed, N skipped`.
pub(crate) fn totals(totals: Totals) -> String {
    let Totals {
        passed,
        failed,
        skipped,
    } = totals;
    format!("{passed} passed, {failed} failed, {skipped} skipped")
}

fn text(line: &Line) -> String {
    let word = match line.outcome {
        Outcome::Passed => "pass",
        Outcome::Skipped(_) => "skip",
        Outcome::Failed(_) => "FAIL",
    };
    let mut text = format!("  {word}  {:<52}", line.id);
    if line.level.is_empty() {
        text.push_str(&format!(" {}", line.title));
    } else {
        text.push_str(&format!(
            " {:<6} {:<8} {}",
            line.level, line.source, line.title
        ));
    }
    let mut text = text.trim_end().to_owned();
    text.push('\n');
    match &line.outcome {
        Outcome::Passed => {}
        Outcome::Skipped(reason) => text.push_str(&format!("        {reason}\n")),
        Outcome::Failed(failure) => {
            for (name, value) in [
                ("request", &failure.request),
                ("expected", &failure.expected),
                ("got", &failure.got),
            ] {
                text.push_str(&format!("        {name:<9} {value}\n"));
            }
        }
    }
    text
}

/// A reader that went away early is no reason to fail.
fn write(text: &str) {
    let mut stdout = std::io::stdout().lock();
    drop(
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush()),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn a_failure_shows_request_expectation_and_answer() {
        let shown = text(&sample().lines[1]);
        for part in [
            "FAIL  pull.some.check",
            "MUST",
            "request   GET /v2/",
            "got       <404>",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn totals_read_as_one_line() {
        assert_eq!(totals(sample().totals()), "1 passed, 1 failed, 2 skipped");
    }
}
