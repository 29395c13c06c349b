//! Runs one program to its end and keeps its exit code and both streams. Called by everything in the
//! harness that types a command, and by the scenarios.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::wait;

/// After this long a command is ended and the scenario fails: nothing here takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(300);

/// A command about to be run.
#[derive(Debug)]
pub struct Run {
    command: Command,
    line: String,
    input: Option<Vec<u8>>,
    limit: Duration,
}

/// What a command answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The command, as it would be typed.
    pub line: String,
    /// The exit code, or 128 + the number of the signal that ended it, as a shell has it.
    pub code: i32,
    /// What it wrote to standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// What it wrote to standard error, invalid UTF-8 replaced.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Run {
    /// A command without arguments. Its standard input is empty.
    pub fn new(program: impl AsRef<Path>) -> Self {
        let program = program.as_ref();
        let line = program
            .file_name()
            .unwrap_or(program.as_os_str())
            .to_string_lossy()
            .into_owned();
        Self {
            command: Command::new(program),
            line,
            input: None,
            limit: LIMIT,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        let argument = argument.as_ref();
        self.line.push(' ');
        self.line.push_str(&quoted(&argument.to_string_lossy()));
        self.command.arg(argument);
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        for argument in arguments {
            self = self.arg(argument);
        }
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes an environment variable.
    #[must_use]
    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs it in `directory`.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.command.current_dir(directory.into());
        self
    }

    /// Gives it `input` to read. It has to fit into a pipe's buffer or be read whole.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Ends it after `limit` instead of the usual one.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started, or is not done within its limit (it is killed then). An exit code that
    /// is not 0 is an answer, not an error.
    pub fn answer(mut self) -> Result<Answer> {
        // Files, not pipes: nobody has to read them while the command runs, and a program that it leaves
        // behind cannot hold them open against us.
        let scratch = tempfile::tempdir().context("create a directory for a command's output")?;
        let (stdout, stderr) = (scratch.path().join("stdout"), scratch.path().join("stderr"));
        let start = Instant::now();
        let mut child = self
            .command
            .stdin(if self.input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(std::fs::File::create(&stdout)?)
            .stderr(std::fs::File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("start `{}`", self.line))?;
        if let (Some(input), Some(mut pipe)) = (self.input, child.stdin.take()) {
            // A program that does not read all of it closes the pipe; that is its right.
            pipe.write_all(&input).ok();
        }
        let code = wait_for(&mut child, self.limit);
        let read = |path: &Path| -> Result<String> {
            Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
        };
        let (stdout, stderr) = (read(&stdout)?, read(&stderr)?);
        let Some(code) = code? else {
            bail!(
                "`{}` was not done after {:?}\n{stdout}{stderr}",
                self.line,
                self.limit
            );
        };
        Ok(Answer {
            line: self.line,
            code,
            stdout,
            stderr,
            took: start.elapsed(),
        })
    }

    /// Runs it to its end with its output going where ours goes, and returns its exit code.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn aloud(mut self) -> Result<i32> {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("start `{}`", self.line))?;
        match wait_for(&mut child, self.limit)? {
            Some(code) => Ok(code),
            None => bail!("`{}` was not done after {:?}", self.line, self.limit),
        }
    }

    /// Runs it to its end, expecting exit code 0.
    ///
    /// # Panics
    /// When it cannot be run or exits otherwise; the message holds all it said.
    #[track_caller]
    pub fn ok(self) -> Answer {
        self.code(0)
    }

    /// Runs it to its end, expecting exit code `code`.
    ///
    /// # Panics
    /// When it cannot be run or exits otherwise; the message holds all it said.
    #[track_caller]
    pub fn code(self, code: i32) -> Answer {
        match self.answer() {
            Ok(answer) if answer.code == code => answer,
            Ok(answer) => panic!("expected exit code {code}\n{answer}"),
            Err(error) => panic!("{error:#}"),
        }
    }
}

impl Answer {
    /// Asserts the form of a refusal: exit code 1 or 2, nothing on stdout, and on stderr the program's name and one
    /// clear line, below which only a hint may stand.
    ///
    /// # Panics
    /// When it has another form.
    #[track_caller]
    pub fn assert_is_refusal(&self) {
        let program = self.line.split(' ').next().unwrap_or_default();
        assert!(matches!(self.code, 1 | 2), "{self}");
        assert_eq!(self.stdout, "", "{self}");
        let mut lines = self.stderr.lines();
        let first = lines.next().unwrap_or_default();
        assert!(first.starts_with(&format!("{program}: ")), "{self}");
        let hint = lines.next();
        assert!(hint.is_none_or(|line| line.starts_with("hint: ")), "{self}");
        assert_eq!(lines.next(), None, "{self}");
        assert!(!self.stderr.contains("panicked"), "{self}");
    }

    /// True when the exit code is 0.
    pub fn succeeded(&self) -> bool {
        self.code == 0
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "$ {}\n{}{}[exit {}]",
            self.line, self.stdout, self.stderr, self.code
        )
    }
}

/// Returns the exit code once the child has ended, or `None` after killing it at the limit.
fn wait_for(child: &mut Child, limit: Duration) -> Result<Option<i32>> {
    let ended = wait::until(limit, || child.try_wait().transpose());
    if let Some(status) = ended {
        use std::os::unix::process::ExitStatusExt;
        let status = status.context("wait for a command")?;
        return Ok(status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal)));
    }
    child.kill().context("kill a command that takes too long")?;
    child.wait().context("wait for a killed command")?;
    Ok(None)
}

/// Returns an argument as it would be typed in a shell.
pub fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_holds_code_and_both_streams() {
        let answer = Run::new("/bin/sh")
            .args(["-c", "cat; echo out; echo err >&2; exit 3"])
            .input("in\n")
            .code(3);
        assert_eq!(
            (answer.stdout.as_str(), answer.stderr.as_str()),
            ("in\nout\n", "err\n")
        );
        assert_eq!(answer.line, "sh -c 'cat; echo out; echo err >&2; exit 3'");
    }

    #[test]
    fn command_over_its_limit_is_ended() {
        let error = Run::new("/bin/sleep")
            .arg("600")
            .limit(Duration::from_millis(50))
            .answer()
            .unwrap_err();
        assert!(error.to_string().contains("was not done"), "{error}");
    }

    #[test]
    fn quoting_is_the_shells() {
        assert_eq!(quoted("a-b"), "a-b");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
