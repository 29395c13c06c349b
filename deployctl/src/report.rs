//! A failure as people read it: one line with its causes, and a hint below. For the programs, which
//! print it.

use std::{error::Error, fmt, iter};

/// A failure in one line. Displayed with its hint in a line of its own, where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What failed and why.
    pub line: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Report {
    /// Returns the report of an error and its [causes]. The outermost hint counts, and a cause that
    /// the line says already is not repeated.
    pub fn new(error: &(dyn Error + 'static)) -> Self {
        let mut line = String::new();
        let mut hint = None;
        for cause in causes(error) {
            let text = cause.to_string();
            let (what, advice) = match text.split_once("\nhint: ") {
                Some((what, advice)) => (what, Some(advice)),
                None => (text.as_str(), None),
            };
            hint = hint.or_else(|| advice.map(str::to_owned));
            // Some say their cause themselves.
            if line.contains(what) {
                continue;
            }
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(what);
        }
        Self { line, hint }
    }

    /// Returns the report of a command line that cannot be understood, as its parser renders it:
    /// without how to use the program, which is a line too many where a script's log is read.
    /// `help` says where that stands.
    pub fn of_usage(rendered: &str, help: &str) -> Self {
        let said = rendered.strip_prefix("error: ").unwrap_or(rendered);
        let lines = said.lines().take_while(|line| !line.is_empty());
        let line = lines.map(str::trim).collect::<Vec<_>>().join(" ");
        let hint = Some(help.to_owned());
        Self { line, hint }
    }

    /// Returns the report of a value that cannot be that of its argument, which is as the parser
    /// calls it (`--name <NAME>`). What is wrong may have a hint of its own.
    pub fn of_value(argument: &str, wrong: &dyn Error, help: &str) -> Self {
        let flag = argument.split(' ').next().unwrap_or(argument);
        let text = format!("{flag}: {wrong}");
        let (line, hint) = text.split_once("\nhint: ").unwrap_or((&text, help));
        let (line, hint) = (line.to_owned(), Some(hint.to_owned()));
        Self { line, hint }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&visible(&self.line))?;
        match &self.hint {
            Some(hint) => write!(formatter, "\nhint: {}", visible(hint)),
            None => Ok(()),
        }
    }
}

/// Returns an error and what caused it, outermost first.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

/// Returns text with what a terminal would obey shown instead.
pub fn visible(text: &str) -> String {
    let show = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failure {
        text: &'static str,
        source: Option<Box<Failure>>,
    }

    fn chain(texts: &[&'static str]) -> Option<Box<Failure>> {
        let (text, rest) = texts.split_first()?;
        let source = chain(rest);
        Some(Box::new(Failure { text, source }))
    }

    #[test]
    fn wrong_usage_is_one_line() {
        let rendered = "error: unexpected argument '--x' found\n\nUsage: deployctl\n";
        let report = Report::of_usage(rendered, "see y");
        let expected = "unexpected argument '--x' found\nhint: see y";
        assert_eq!(report.to_string(), expected);
        let missing =
            "error: the following arguments were not provided:\n  --name <NAME>\n\nUsage:";
        let report = Report::of_usage(missing, "see y");
        let expected = "the following arguments were not provided: --name <NAME>";
        assert_eq!(report.line, expected);
        for (text, expected) in [
            ("no name", "--name: no name\nhint: see y"),
            ("no name\nhint: write x", "--name: no name\nhint: write x"),
        ] {
            let wrong = Failure { text, source: None };
            let report = Report::of_value("--name <NAME>", &wrong, "see y");
            assert_eq!(report.to_string(), expected);
        }
    }

    #[test]
    fn causes_stand_in_one_line_and_the_outermost_hint_below() {
        let table: [(&[&str], &str); 4] = [
            (&["cannot push", "no room"], "cannot push: no room"),
            (&["cannot push: no room", "no room"], "cannot push: no room"),
            (
                &["a", "b\nhint: do c", "d\nhint: do e"],
                "a: b: d\nhint: do c",
            ),
            (&["a\u{1b}[2J"], "a\\u{1b}[2J"),
        ];
        for (texts, expected) in table {
            let error = chain(texts).unwrap();
            assert_eq!(Report::new(&*error).to_string(), expected);
        }
    }
}
