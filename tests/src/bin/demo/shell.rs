//! Runs the very lines that the demo prints. Called by the story.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use deploy_tests::command::{Answer, Run};
use deploy_tests::server::Server;

use crate::printer::Printer;
use crate::stage::Stage;

/// A shell in the demo's directory, which remembers what was exported.
#[derive(Debug)]
pub(crate) struct Shell<'a> {
    printer: &'a Printer,
    stage: &'a Stage,
    exported: Vec<(String, String)>,
    directory: PathBuf,
}

impl<'a> Shell<'a> {
    pub(crate) fn new(printer: &'a Printer, stage: &'a Stage) -> Self {
        let directory = stage.directory().to_owned();
        Self {
            printer,
            stage,
            exported: Vec::new(),
            directory,
        }
    }

    /// The directory that everything is run in.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Exports a variable to all commands from here on; `shown` is its value as it is typed.
    pub(crate) fn export(&mut self, name: &str, value: &str, shown: &str) {
        self.printer.command(&format!("export {name}={shown}"));
        self.exported.push((name.to_owned(), value.to_owned()));
    }

    /// Prints a line, runs it, and prints its answer and how long it took.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn run(&self, line: &str) -> Result<Answer> {
        let answer = self.quietly(line)?;
        self.printer.answer(&answer.stdout);
        self.printer.answer(&answer.stderr);
        ensure!(
            answer.succeeded(),
            "that command failed with exit code {}",
            answer.code
        );
        self.printer.took(answer.took);
        Ok(answer)
    }

    fn quietly(&self, line: &str) -> Result<Answer> {
        self.printer.command(line);
        let mut run = Run::new("/bin/bash")
            .args(["-c", line])
            .directory(&self.directory);
        for (name, value) in &self.exported {
            run = run.env(name, value);
        }
        run.env_remove("DEPLOYCTL_FINGERPRINT").answer()
    }

    /// Prints a line as one that is left in the background, and starts it with its log in a file beside it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn leave_running(&self, line: &str, log: &str) -> Result<Server> {
        self.printer.command(&format!("{line} >{log} 2>&1 &"));
        let mut command = Command::new("/bin/bash");
        // With `exec` the shell becomes the program, and its pid is the program's.
        command
            .args(["-c", &format!("exec {line}")])
            .current_dir(&self.directory);
        command.envs(self.exported.iter().map(|(name, value)| (name, value)));
        let server = Server::start(command, self.directory.join(log))?;
        self.stage.process(server.pid());
        Ok(server)
    }

    /// Waits until `found` returns something, and prints how long that took.
    ///
    /// # Errors
    /// When it does not within a minute, or `server` ends meanwhile; the message holds its log.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        server: &mut Server,
        mut found: impl FnMut() -> Option<T>,
    ) -> Result<(T, Duration)> {
        let start = Instant::now();
        let value = deploy_tests::wait::until(deploy_tests::wait::PATIENCE, || {
            found().map(Some).or_else(|| server.ended().then_some(None))
        });
        let value = value
            .flatten()
            .with_context(|| format!("waited in vain for {what}\n{}", server.log()))?;
        Ok((value, start.elapsed()))
    }
}
