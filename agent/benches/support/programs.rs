//! The workspace's own programs, as they were built beside the benchmark, and a registry on a
//! directory of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::support::run;

/// How long a program may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns where a program of the workspace is.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let agent = Path::new(env!("CARGO_BIN_EXE_deploy-agent"));
    let path = agent.with_file_name(name);
    ensure!(
        path.exists(),
        "`{}` is not there; build it with `cargo build --release --workspace --bins`",
        path.display()
    );
    Ok(path)
}

/// A program that runs until this is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts a program with its output going to a file.
pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Running> {
    let file = File::create(log)?;
    let command = command.stdin(Stdio::null()).stdout(file.try_clone()?);
    let child = command.stderr(file).spawn();
    Ok(Running(child.with_context(|| format!("{command:?}"))?))
}

/// A registry of ours, and its address.
pub(crate) struct Registry {
    _running: Running,
    pub(crate) address: String,
}

impl Registry {
    /// Starts one on a directory in `place`.
    pub(crate) fn start(place: &Path) -> Result<Self> {
        let (directory, log) = (place.join("registry"), place.join("registry.log"));
        fs::create_dir(&directory)?;
        let mut command = Command::new(program("deploy-registry")?);
        command.args([
            "serve",
            "-addr",
            "127.0.0.1:0",
            "-anonymous",
            "write",
            "-dir",
        ]);
        let running = start(command.arg(&directory), &log)?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let text = fs::read_to_string(&log)?;
            let found = text.split("127.0.0.1:").skip(1).find_map(|rest| {
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                let ended = rest.len() > port.len();
                (ended && port != "0" && !port.is_empty()).then(|| format!("127.0.0.1:{port}"))
            });
            if let Some(address) = found {
                return Ok(Self {
                    _running: running,
                    address,
                });
            }
            sleep(Duration::from_millis(10));
        }
        bail!(
            "the registry did not come up: {}",
            fs::read_to_string(&log)?
        )
    }

    /// Runs deployctl with these arguments.
    pub(crate) fn deployctl(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(program("deployctl")?);
        run(command.env("DEPLOYCTL_ADDR", &self.address).args(arguments))
    }
}
