//! Our registry on a directory. Called by the scenarios and by the demo.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::port::Port;
use crate::programs::Program;
use crate::server::Server;
use crate::tree::Tree;

/// A running registry of ours, on a port of its own. Dropping it kills it and removes a directory that was
/// made for it.
#[derive(Debug)]
pub struct Registry {
    // Before the directories: a field is dropped before those after it, and the registry has to be gone first.
    server: Server,
    address: SocketAddr,
    // It stays ours between two runs.
    port: Port,
    directory: PathBuf,
    flags: Vec<String>,
    scratch: TempDir,
}

impl Registry {
    /// Starts one on an empty directory.
    ///
    /// # Panics
    /// When it does not come up; the message holds its log.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one on an empty directory, with more flags than the usual ones. Where they name files of keys or
    /// passwords, it is not open to everyone.
    ///
    /// # Panics
    /// When it does not come up; the message holds its log.
    pub fn start_with(flags: &[&str]) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let directory = scratch.path().join("registry");
        std::fs::create_dir(&directory).expect("a new directory can hold another");
        Self::start_at(directory, flags, scratch)
    }

    /// Starts one on a directory that exists, and that stays when it is gone.
    ///
    /// # Panics
    /// When it does not come up; the message holds its log.
    pub fn start_on(directory: impl Into<PathBuf>, flags: &[&str]) -> Self {
        Self::start_at(
            directory.into(),
            flags,
            tempfile::tempdir().expect("a temporary directory can be made"),
        )
    }

    fn start_at(directory: PathBuf, flags: &[&str], scratch: TempDir) -> Self {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let port = Port::reserve();
        let (server, address) = run(&directory, port.number(), &flags, scratch.path())
            .unwrap_or_else(|error| panic!("{error:#}"));
        Self {
            server,
            address,
            port,
            directory,
            flags,
            scratch,
        }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The directory that it keeps everything in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All objects that it keeps, except the log of who did what, which is written a little later. Not what stands beside them and is its process's own: a journal, which is emptied
    /// when nothing was written for a while, locks and sockets.
    pub fn objects(&self) -> Tree {
        let mut objects = Tree::of(&self.directory).without_times();
        (objects.entries).retain(|path, _| !path.starts_with('.') && !path.starts_with("audit"));
        objects
    }

    /// All it has logged since its last start.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// The fingerprint that it logged.
    ///
    /// # Panics
    /// When it logged none.
    #[track_caller]
    pub fn fingerprint(&self) -> String {
        let log = self.log();
        let found = log
            .split_whitespace()
            .find_map(|word| word.strip_prefix("fingerprint="));
        found
            .unwrap_or_else(|| panic!("no fingerprint is logged:\n{log}"))
            .to_owned()
    }

    /// Its process's id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Kills it with signal 9, as a crash would, and waits until it is gone.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Asks it to stop, and does not wait.
    pub fn terminate(&self) {
        self.server.signal(Signal::TERM);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not ended in time.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.server.wait()
    }

    /// Starts it again on the same directory and the same port, after it was killed or stopped.
    ///
    /// # Panics
    /// When it does not come up; the message holds its log.
    pub fn restart(&mut self) {
        self.server.kill();
        let (server, address) = run(
            &self.directory,
            self.port.number(),
            &self.flags,
            self.scratch.path(),
        )
        .unwrap_or_else(|error| panic!("{error:#}"));
        (self.server, self.address) = (server, address);
    }
}

/// The command that starts a registry of ours on `directory`, open to everyone on loopback.
pub fn command(directory: &Path, port: u16) -> Command {
    let mut command = guarded_command(directory, port);
    command.args(OPEN);
    command
}

/// The flags that open a registry to everyone on loopback; none where other flags say who may do what.
pub(crate) fn opened(flags: &[String]) -> &'static [&'static str] {
    let guards = ["-opauth", "-srvauth", "-htpasswd"];
    let is_guarded = flags.iter().any(|flag| guards.contains(&flag.as_str()));
    match is_guarded {
        true => &[],
        false => &OPEN,
    }
}

const OPEN: [&str; 2] = ["-anonymous", "write"];

/// The command that starts a registry of ours that has still to be told who may do what.
fn guarded_command(directory: &Path, port: u16) -> Command {
    let mut command = Command::new(Program::Registry.path());
    command
        .args(["-addr", &format!("127.0.0.1:{port}"), "-dir"])
        .arg(directory);
    command
}

fn run(directory: &Path, port: u16, flags: &[String], logs: &Path) -> Result<(Server, SocketAddr)> {
    let mut command = guarded_command(directory, port);
    command.args(opened(flags)).args(flags);
    let mut server = Server::start(command, logs.join("registry.log"))?;
    let address = server.address().context("start a registry")?;
    Ok((server, address))
}
