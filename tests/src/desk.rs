//! An operator's and a host's place of work: a home directory, files in it, and both command lines pointed at
//! one registry. Called by the scenarios.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::command::Run;
use crate::peers;
use crate::programs::Program;
use crate::server::Server;

/// A directory to work in and a registry to work with. The directory goes when it is dropped.
#[derive(Debug)]
pub struct Desk {
    home: TempDir,
    address: String,
}

impl Desk {
    /// An empty desk that looks at the registry at `address`.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    pub fn at(address: impl Into<String>) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        Self {
            home,
            address: address.into(),
        }
    }

    /// A desk whose registry has something to deploy: the component `code` in the versions `v1` and `v2`, each
    /// with a file `program` that says `one` or `two`, and the configuration `project` of `code:v1`.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn stocked(address: impl Into<String>) -> Self {
        let desk = Self::at(address);
        desk.push_file("code", "v1", "program", "one");
        desk.push_file("code", "v2", "program", "two");
        desk.compose("project", &["code:v1"]);
        desk
    }

    /// The home directory, which commands run in.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The registry's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A path below the home directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.home().join(relative)
    }

    /// Reads a text file below the home directory.
    ///
    /// # Panics
    /// When it cannot be read.
    #[track_caller]
    pub fn read(&self, relative: &str) -> String {
        std::fs::read_to_string(self.path(relative))
            .unwrap_or_else(|error| panic!("read `{relative}`: {error}"))
    }

    /// Writes a file below the home directory, with the directories it needs, and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("a file stands in a directory"))
            .expect("home can be written");
        std::fs::write(&path, content).expect("home can be written");
        path
    }

    /// Writes a shell script below the home directory that everyone may execute, and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn script(&self, relative: &str, body: &str) -> PathBuf {
        let path = self.path(relative);
        // Not by this process: a child that another test is just starting would hold the file open for
        // writing too, and until it is done with that nobody can execute the script.
        self.run("/bin/sh")
            .args(["-c", r#"cat >"$0" && chmod 755 "$0""#])
            .arg(&path)
            .input(format!("#!/bin/sh\n{body}\n"))
            .ok();
        path
    }

    /// A command of any program, run at home with the workspace's programs and the peers on PATH.
    pub fn run(&self, program: impl AsRef<Path>) -> Run {
        Run::new(program)
            .directory(self.home())
            .env("HOME", self.home())
            .env("PATH", peers::path_variable())
            .env("DEPLOYCTL_ADDR", &self.address)
            .env_remove("DEPLOYCTL_FINGERPRINT")
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("REGISTRY_AUTH_FILE")
            .env_remove("DOCKER_CONFIG")
    }

    /// `deployctl` with these arguments.
    pub fn deployctl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Run {
        self.run(Program::Deployctl.path()).args(arguments)
    }

    /// `deployctl … --output json`, parsed.
    ///
    /// # Panics
    /// When it fails or does not answer JSON.
    #[track_caller]
    pub fn json<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Value {
        let answer = self.deployctl(arguments).args(["--output", "json"]).ok();
        serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}\n{answer}"))
    }

    /// Packs one file as version `version` of `component`.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn push_file(&self, component: &str, version: &str, name: &str, content: &str) {
        let directory = format!("push/{component}/{version}");
        self.write(&format!("{directory}/{name}"), content);
        self.deployctl(["push", &format!("{component}:{version}"), &directory])
            .ok();
    }

    /// Makes a configuration of these layers, each `component:version`.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn compose(&self, configuration: &str, layers: &[&str]) {
        self.deployctl(["addconf", "-name", configuration])
            .args(layers.iter().flat_map(|layer| ["-layer", layer]))
            .ok();
    }

    /// Makes one layer of a configuration another version.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn change(&self, configuration: &str, component: &str, version: &str) {
        self.deployctl(["changeconf", "-name", configuration])
            .args(["-component", component, "-version", version])
            .ok();
    }

    /// The tree that is deployed in the directory `host`, by its own path.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn current(&self, host: &str) -> PathBuf {
        let link = self.path(host).join("current");
        std::fs::canonicalize(&link).unwrap_or_else(|error| panic!("`{}`: {error}", link.display()))
    }

    /// The arguments that make `deploy-agent` follow `configuration` in the directory `host` with `script`.
    fn agent_arguments(&self, configuration: &str, host: &str, script: &Path) -> Vec<String> {
        std::fs::create_dir_all(self.path(host)).expect("home can be written");
        let (directory, script) = (
            self.path(host).display().to_string(),
            script.display().to_string(),
        );
        [
            "-addr",
            &self.address,
            "-dir",
            &directory,
            "-name",
            configuration,
            "-script",
            &script,
            "-state",
        ]
        .into_iter()
        .map(str::to_owned)
        .chain([self.path(host).join("state.json").display().to_string()])
        .collect()
    }

    /// `deploy-agent -once` for `configuration` in the directory `host`, with `script`.
    pub fn agent_once(&self, configuration: &str, host: &str, script: &Path) -> Run {
        self.run(Program::Agent.path())
            .args(self.agent_arguments(configuration, host, script))
            .arg("-once")
    }

    /// A `deploy-agent` left running, as [`agent_once`](Self::agent_once) but with its own flags after the usual
    /// ones. Its log is `host`.log.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn agent(&self, configuration: &str, host: &str, script: &Path, flags: &[&str]) -> Server {
        let mut command = Command::new(Program::Agent.path());
        command
            .args(self.agent_arguments(configuration, host, script))
            .args(flags)
            .current_dir(self.home())
            .env("HOME", self.home())
            .env_remove("DEPLOYCTL_FINGERPRINT");
        Server::start(command, self.path(&format!("{host}.log")))
            .unwrap_or_else(|error| panic!("{error:#}"))
    }
}
