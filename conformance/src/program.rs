//! Finds and runs other programs, with an environment that holds nothing of the user's but where programs
//! are and which certificates are trusted.
//! For the official suite and the real clients.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::check::{Stop, Verdict};

/// So much of a program's last words is quoted.
const QUOTED: usize = 600;

/// What programs find in their environment of ours: OpenSSL's and Go's names for trusted certificates too,
/// so that a registry with a certificate of its own can be spoken to and is verified.
const KEPT: [&str; 3] = ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The file that a name leads to on `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| is_executable(file))
}

/// True for a file that may be run.
pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// A program with its arguments, ready to run.
pub(crate) struct Program {
    command: Command,
    line: String,
    limit: Duration,
}

impl Program {
    /// `file` with [`KEPT`] and nothing else in its environment, working in `directory`.
    pub(crate) fn new(file: &Path, directory: &Path, limit: Duration) -> Self {
        let mut command = Command::new(file);
        command
            .env_clear()
            .envs(
                KEPT.iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .current_dir(directory)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let name = file.file_name().unwrap_or(file.as_os_str());
        Self {
            line: name.to_string_lossy().into_owned(),
            command,
            limit,
        }
    }

    /// Adds a variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<T: AsRef<str>>(mut self, arguments: &[T]) -> Self {
        for argument in arguments {
            self.line.push(' ');
            self.line.push_str(argument.as_ref());
            self.command.arg(argument.as_ref());
        }
        self
    }

    /// Runs it to its end and answers what it wrote, whatever its exit status.
    pub(crate) async fn output(mut self) -> Verdict<(String, Output)> {
        let line = self.line;
        match tokio::time::timeout(self.limit, self.command.output()).await {
            Ok(Ok(output)) => Ok((line, output)),
            Ok(Err(error)) => Err(Stop::fail(line, "a start", error.to_string())),
            Err(_) => Err(Stop::fail(
                line,
                "an end",
                format!("none after {:?}", self.limit),
            )),
        }
    }

    /// Runs it and answers its standard output; another exit status than 0 is a failure.
    pub(crate) async fn run(self) -> Verdict<Vec<u8>> {
        let (line, output) = self.output().await?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let got = format!("{}: {}", output.status, last_words(&output));
        Err(Stop::fail(line, "exit status 0", got))
    }
}

/// The end of what a program wrote, on one line.
pub(crate) fn last_words(output: &Output) -> String {
    let text = if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    let text = String::from_utf8_lossy(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    let skipped = text.chars().count().saturating_sub(QUOTED);
    text.chars().skip(skipped).collect()
}
