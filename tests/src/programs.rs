//! The workspace's own programs: builds them once a process, in the profile of the caller, and says where
//! they are. Called by the scenarios and by the demo.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::command::Run;

/// One of the workspace's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `deploy-registry`
    Registry,
    /// `deployctl`
    Deployctl,
    /// `deploy-agent`
    Agent,
    /// `deploy-from-docker`
    FromDocker,
}

impl Program {
    /// All of them, in the order in which data passes through them.
    pub const ALL: [Self; 4] = [
        Self::Registry,
        Self::Deployctl,
        Self::Agent,
        Self::FromDocker,
    ];

    /// The file name of the program, which is the name of its package too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registry => "deploy-registry",
            Self::Deployctl => "deployctl",
            Self::Agent => "deploy-agent",
            Self::FromDocker => "deploy-from-docker",
        }
    }

    /// Where the built program is. The first call in a process brings all programs up to date.
    ///
    /// # Panics
    /// When they do not build; the message is the compiler's.
    pub fn path(self) -> PathBuf {
        directory().join(self.name())
    }
}

/// What builds the programs with the features that tests have, as tests/run does: another choice would have
/// other features of what they share, and build all of it once more. There are no examples, but naming them
/// chooses those features.
pub const AS_TESTS: &[&str] = &["--workspace", "--bins", "--examples"];

/// The directory that holds the built programs, up to date.
///
/// # Panics
/// When they do not build; the message is the compiler's.
pub fn directory() -> &'static Path {
    static BUILT: OnceLock<Result<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| match is_release()? {
        true => build(&["--release", "--workspace", "--bins"]),
        false => build(AS_TESTS),
    });
    built.as_ref().unwrap_or_else(|error| panic!("{error:#}"))
}

/// Builds what the arguments choose, which has to be in the profile of the running program, and returns the
/// directory that the programs are in then.
///
/// # Errors
/// When the build fails, or the running program is not in a target directory.
pub fn build(choice: &[&str]) -> Result<PathBuf> {
    let (command, directory) = build_command(choice)?;
    let answer = command.arg("--quiet").answer()?;
    ensure!(answer.succeeded(), "{answer}");
    Ok(directory)
}

/// Builds as [`build`] does, with what cargo says going where the running program's own output goes.
///
/// # Errors
/// As [`build`].
pub fn build_aloud(choice: &[&str]) -> Result<PathBuf> {
    let (command, directory) = build_command(choice)?;
    let code = command.aloud()?;
    ensure!(code == 0, "the programs do not build");
    Ok(directory)
}

fn build_command(choice: &[&str]) -> Result<(Run, PathBuf)> {
    let directory = own_directory()?;
    let target = directory
        .parent()
        .context("a profile's directory stands in the target directory")?;
    let command = Run::new(cargo())
        .args(["build", "--locked", "--target-dir"])
        .arg(target)
        .args(choice)
        .directory(workspace())
        .limit(std::time::Duration::from_secs(45 * 60));
    Ok((command, directory))
}

/// True when the running program was built in release mode, and so what it builds is.
///
/// # Errors
/// When the running program is not in a target directory.
pub fn is_release() -> Result<bool> {
    Ok(own_directory()?
        .file_name()
        .is_some_and(|name| name == "release"))
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a package stands below the workspace's root")
}

/// The cargo that runs this, or the one on PATH.
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO")
        .unwrap_or_else(|| "cargo".into())
        .into()
}

/// The profile's directory (`…/debug`, `…/release`) that the running program stands in. Tests stand in its
/// subdirectory `deps`.
fn own_directory() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the running program")?;
    let mut directory = own.parent().context("a program stands in a directory")?;
    if directory.ends_with("deps") {
        directory = directory
            .parent()
            .context("`deps` stands in a profile's directory")?;
    }
    Ok(directory.to_owned())
}
