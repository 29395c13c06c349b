//! The operator's script: its environment, its output, its end. Every external process of
//! the agent starts here; `deployer` calls it.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::Permissions,
    io::Write,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    fs::{Access, access},
    process::{Pid, Signal, kill_process_group, test_kill_process_group},
};
use tokio::{
    process::{Child, Command},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{error::AgentError, file::TEMPORARY, output::log_lines, record::Record, stop::Stop};

/// What the script gets of the agent's own environment.
const PASSED_ON: [&str; 8] = [
    "PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "LANG", "LC_ALL", "SHELL",
];
/// How long a script may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long the last lines of a script that has ended are waited for. Whoever it left running
/// may keep its output open for ever.
const LAST_LINES: Duration = Duration::from_millis(500);
/// How often it is looked whether a group that was asked to end has ended.
const TICK: Duration = Duration::from_millis(20);

/// The operator's script.
#[derive(Clone, Debug)]
pub struct Script {
    path: PathBuf,
    environment: BTreeMap<String, OsString>,
    timeout: Option<Duration>,
}

/// What the script is told.
#[derive(Debug)]
pub(crate) struct Switch<'a> {
    /// Id and tree of what it finds, where there is something.
    pub(crate) old: Option<(String, PathBuf)>,
    /// What it shall switch to.
    pub(crate) new: &'a Record,
    /// The tree of it.
    pub(crate) new_root: PathBuf,
    /// What the release itself sets.
    pub(crate) environment: Vec<(String, String)>,
    /// Where STATEFILE is written.
    pub(crate) directory: &'a Path,
}

impl Script {
    /// Returns the script at `path`, made absolute. Of `environment` it will see PATH, HOME,
    /// TMPDIR, USER, LOGNAME, LANG, LC_ALL and SHELL.
    ///
    /// # Errors
    /// [`AgentError::Script`] where it is missing, no file, or not executable.
    pub fn open(
        path: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, AgentError> {
        let path = std::path::absolute(path).map_err(AgentError::io("find", path))?;
        let refuse = |reason: &str| AgentError::Script {
            path: path.clone(),
            reason: reason.to_owned(),
        };
        match path.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(refuse(
                    "is missing\nhint: name it by -script; it is run on every deployment",
                ));
            }
            Err(error) => return Err(AgentError::io("read", path)(error)),
            Ok(metadata) if !metadata.is_file() => return Err(refuse("is no file")),
            Ok(_) => {}
        }
        if access(&path, Access::EXEC_OK).is_err() {
            return Err(refuse("is not executable\nhint: make it so by `chmod +x`"));
        }
        let environment = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| PASSED_ON.contains(&name.as_str()))
            .collect();
        Ok(Self {
            path,
            environment,
            timeout: None,
        })
    }

    /// Returns the script with a longest time that it may take; any time without one.
    #[must_use]
    pub fn limited(self, timeout: Option<Duration>) -> Self {
        Self { timeout, ..self }
    }

    /// Runs the script to its end. Its output goes to the log line by line. It runs in a
    /// process group of its own, which is ended as a whole (TERM, then KILL) when `stop` is
    /// uttered or its time is over; what it leaves running when it ends by itself stays.
    ///
    /// # Errors
    /// [`AgentError::ScriptFailed`] unless it exits with status 0 in time;
    /// [`AgentError::Interrupted`] where it was stopped.
    pub(crate) async fn run(&self, switch: &Switch<'_>, stop: &Stop) -> Result<(), AgentError> {
        let state_file = write_state_file(switch.directory, switch.new)?;
        let mut command = Command::new(&self.path);
        command
            .env_clear()
            .envs(self.variables(switch, state_file.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(AgentError::io("run", &self.path))?;
        let mut group = Group::of(&child);
        let mut output = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            output.spawn(log_lines(
                stdout,
                |line| tracing::info!(target: "script", stream = "stdout", "{line}"),
            ));
        }
        if let Some(stderr) = child.stderr.take() {
            output.spawn(log_lines(
                stderr,
                |line| tracing::info!(target: "script", stream = "stderr", "{line}"),
            ));
        }
        let status = tokio::select! {
            status = child.wait() => Ok(status),
            () = stop.stopped() => Err(AgentError::Interrupted),
            outcome = self.overdue() => Err(self.failed(outcome)),
        };
        match status {
            Ok(_) => group.leave(),
            Err(_) => group.end(&mut child).await,
        }
        let lines = async { while output.join_next().await.is_some() {} };
        if timeout(LAST_LINES, lines).await.is_err() {
            tracing::debug!("something that the script left running keeps its output open");
            // Whoever it is shall not be ended by writing to nobody.
            output.detach_all();
        }
        let status = status?.map_err(AgentError::io("wait for", &self.path))?;
        if status.success() {
            return Ok(());
        }
        Err(self.failed(outcome(status)))
    }

    /// Returns what to say of the script once its time is over.
    async fn overdue(&self) -> String {
        let Some(limit) = self.timeout else {
            return std::future::pending().await;
        };
        sleep(limit).await;
        let limit = humantime::format_duration(limit);
        format!("was ended, having run for {limit}\nhint: -script-timeout gives it more time")
    }

    fn failed(&self, outcome: String) -> AgentError {
        AgentError::ScriptFailed {
            path: self.path.clone(),
            outcome,
        }
    }

    /// Returns the whole environment of the script.
    ///
    /// The agent's own variables go before the release's: a release cannot redirect the
    /// script to another PATH or HOME than the host's.
    fn variables(&self, switch: &Switch<'_>, state_file: &Path) -> BTreeMap<String, OsString> {
        let mut variables: BTreeMap<String, OsString> = BTreeMap::new();
        for (name, value) in &switch.environment {
            if is_variable(name) && !value.contains('\0') {
                variables.insert(name.clone(), value.into());
            } else {
                tracing::warn!(name = %name.escape_debug(), "the release sets a variable that no process can have");
            }
        }
        variables.extend(self.environment.clone());
        for (index, layer) in switch.new.layers.iter().enumerate() {
            variables.insert(format!("LAYER_{index}_NAME"), (&layer.name).into());
            variables.insert(format!("LAYER_{index}_VERSION"), (&layer.version).into());
        }
        let (old_id, old_root) = switch.old.clone().unwrap_or_default();
        let mut own =
            |name: &str, value: &OsStr| variables.insert(name.to_owned(), value.to_owned());
        own("OLDID", old_id.as_ref());
        own("OLDROOT", old_root.as_os_str());
        own("NEWID", switch.new.id.to_string().as_ref());
        own("NEWROOT", switch.new_root.as_os_str());
        own("STATEFILE", state_file.as_os_str());
        variables
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// Writes the release as the script may read it; removed when dropped.
fn write_state_file(
    directory: &Path,
    record: &Record,
) -> Result<tempfile::NamedTempFile, AgentError> {
    let write = || -> std::io::Result<_> {
        let mut file = tempfile::Builder::new()
            .prefix(&format!("{TEMPORARY}statefile-"))
            .suffix(".json")
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(directory)?;
        file.write_all(&record.to_json())?;
        Ok(file)
    };
    write().map_err(AgentError::io("write STATEFILE in", directory))
}

/// The process group of a running script; killed when dropped, which is what happens when the
/// agent is told twice to end.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: &Child) -> Self {
        Self(
            leader
                .id()
                .and_then(|id| Pid::from_raw(id.try_into().ok()?)),
        )
    }

    /// Leaves alone what is still running.
    fn leave(&mut self) {
        self.0 = None;
    }

    /// Ends the group and waits for it.
    async fn end(&mut self, leader: &mut Child) {
        let Some(group) = self.0 else { return };
        tracing::info!("ending the script");
        // Fails only where the group is gone already, which is what is wanted.
        kill_process_group(group, Signal::TERM).ok();
        let gone = async {
            leader.wait().await.ok();
            while test_kill_process_group(group).is_ok() {
                sleep(TICK).await;
            }
        };
        if timeout(GRACE, gone).await.is_ok() {
            self.leave();
            return;
        }
        tracing::warn!("the script does not end by itself and is killed");
        kill_process_group(group, Signal::KILL).ok();
        self.leave();
        leader.wait().await.ok();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

fn outcome(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
