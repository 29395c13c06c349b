//! One program left running: its log, its address, its end by pid. Called by the modules that know one
//! server each, and by scenarios that leave an agent running.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// A running program. Dropping it kills it and waits for its end, unless it was left to run.
#[derive(Debug)]
pub struct Server {
    child: Child,
    name: String,
    log: PathBuf,
    left: bool,
}

impl Server {
    /// Starts `command` with both its streams going to the file `log`, which is made anew.
    ///
    /// # Errors
    /// When the log cannot be written or the program not be started.
    pub fn start(mut command: Command, log: impl Into<PathBuf>) -> Result<Self> {
        let log = log.into();
        let name = command.get_program().to_string_lossy().into_owned();
        let file = File::create(&log).with_context(|| format!("create `{}`", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start `{name}`"))?;
        Ok(Self {
            child,
            name,
            log,
            left: false,
        })
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has written so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Waits until the log names a loopback address with a port, and returns that.
    ///
    /// # Errors
    /// When the program ends, or names none in time. The message holds its log.
    pub fn address(&mut self) -> Result<SocketAddr> {
        let found = wait::until(wait::PATIENCE, || match loopback_address(&self.log()) {
            Some(address) => Some(Some(address)),
            None => self.ended().then_some(None),
        });
        match found.flatten() {
            Some(address) => Ok(address),
            None => bail!(
                "`{}` names no address to reach it at\n{}",
                self.name,
                self.log()
            ),
        }
    }

    /// True once the program has ended.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to stop with a signal, and does not wait.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a child's id is a process id");
        // It may have ended already, which is what is wanted.
        kill_process(pid, signal).ok();
    }

    /// Kills it, as a crash would, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Lets it go on running when this is dropped. Whoever calls this ends it by its pid.
    pub fn leave(mut self) {
        self.left = true;
    }

    /// Waits for its end by itself.
    ///
    /// # Panics
    /// When it has not ended in time.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        match wait::until(wait::PATIENCE, || self.child.try_wait().transpose()) {
            Some(status) => status.expect("a child can be waited for"),
            None => panic!("`{}` has not ended\n{}", self.name, self.log()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        self.kill();
        if std::thread::panicking() {
            eprint_tail(&self.name, &self.log());
        }
    }
}

/// Shows the end of a log beside the failure of the test that it belongs to.
#[expect(
    clippy::print_stderr,
    reason = "a failing test shows what its servers said"
)]
fn eprint_tail(name: &str, log: &str) {
    let lines: Vec<_> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(12)..].join("\n");
    eprintln!("--- the log of `{name}` ends with\n{tail}\n---");
}

fn read(path: &Path) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The first `127.0.0.1:PORT` in the text whose port is not 0 and which is followed by something, so that
/// a line that is only half written does not count.
fn loopback_address(text: &str) -> Option<SocketAddr> {
    text.match_indices("127.0.0.1:").find_map(|(start, _)| {
        let rest = &text[start..];
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))?;
        rest[..end]
            .parse()
            .ok()
            .filter(|address: &SocketAddr| address.port() != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_the_first_whole_one() {
        assert_eq!(
            loopback_address("asked 127.0.0.1:0, got 127.0.0.1:41"),
            None
        );
        let got = loopback_address("asked 127.0.0.1:0, got \"127.0.0.1:4123\"\n").unwrap();
        assert_eq!(got.port(), 4123);
    }
}
