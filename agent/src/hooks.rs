//! The operator's scripts: their environment, their output, their end. Every external process of
//! the agent starts here; `deployer` calls it.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    fs::Permissions,
    io::Write,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::fs::{Access, access};
use tokio::{
    process::Command,
    task::JoinSet,
    time::{sleep, timeout},
};

pub use self::check::Check;
use self::group::Group;
pub(crate) use crate::output::Tail;
use crate::{
    error::AgentError,
    file::{PRIVATE, TEMPORARY},
    image::ImageConfig,
    output::log_lines,
    record::{Record, StateFile},
    stop::Stop,
};

mod check;
mod group;

/// What the script gets of the agent's own environment.
const PASSED_ON: [&str; 8] = [
    "PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "LANG", "LC_ALL", "SHELL",
];
/// The most bytes of a variable, with all that belongs to it (MAX_ARG_STRLEN): with a longer one
/// no process can be started.
const LONGEST_VARIABLE: usize = 128 << 10;
/// How long the last lines of a script that has ended are waited for. Whoever it left running
/// may keep its output open for ever.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Which of the operator's scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The one that may refuse a release before anything is touched.
    Prepare,
    /// The one that switches the host.
    Script,
    /// The one that tells whether the host is well.
    Check,
}

impl Hook {
    /// Returns the flag that names it.
    fn flag(self) -> &'static str {
        match self {
            Self::Prepare => "-prepare",
            Self::Script => "-script",
            Self::Check => "-check",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Prepare => "prepare script",
            Self::Script => "script",
            Self::Check => "check script",
        })
    }
}

/// One of the operator's scripts.
#[derive(Clone, Debug)]
pub struct Script {
    hook: Hook,
    path: PathBuf,
    environment: BTreeMap<String, OsString>,
    timeout: Option<Duration>,
}

/// What the script is told.
#[derive(Debug)]
pub(crate) struct Switch<'a> {
    /// Id and tree of what it finds, where there is something.
    pub(crate) old: Option<(String, PathBuf)>,
    /// What it shall switch to, or is asked about.
    pub(crate) new: &'a Record,
    /// The tree of it.
    pub(crate) new_root: PathBuf,
    /// What the release itself sets.
    pub(crate) environment: &'a [(String, String)],
    /// What its image says, where that is known.
    pub(crate) image: Option<&'a ImageConfig>,
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
        hook: Hook,
        path: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, AgentError> {
        let path = std::path::absolute(path).map_err(AgentError::io("find", path))?;
        let refuse = |reason: &str| AgentError::Script {
            hook,
            path: path.clone(),
            reason: reason.to_owned(),
        };
        match path.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(refuse(&format!(
                    "is missing\nhint: name it by {}; it is run on every deployment",
                    hook.flag()
                )));
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
            hook,
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

    /// Runs the script to its end. Its output goes to the log line by line, and the last lines
    /// to `tail`. It runs in a process group of its own, which is ended as a whole (TERM, then
    /// KILL) when `stop` is uttered or its time is over; what it leaves running when it ends by
    /// itself stays.
    ///
    /// # Errors
    /// [`AgentError::Refused`] unless it exits with status 0 in time;
    /// [`AgentError::Interrupted`] where it was stopped.
    pub(crate) async fn run(
        &self,
        switch: &Switch<'_>,
        tail: &Tail,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        self.run_within(self.timeout, switch, tail, stop).await
    }

    /// As [`run`](Self::run), in this time.
    async fn run_within(
        &self,
        limit: Option<Duration>,
        switch: &Switch<'_>,
        tail: &Tail,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        let state_file = write_state_file(switch)?;
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
            let tail = tail.clone();
            output.spawn(log_lines(stdout, move |line| {
                tail.push(line);
                tracing::info!(target: "script", stream = "stdout", "{line}");
            }));
        }
        if let Some(stderr) = child.stderr.take() {
            let tail = tail.clone();
            output.spawn(log_lines(stderr, move |line| {
                tail.push(line);
                tracing::info!(target: "script", stream = "stderr", "{line}");
            }));
        }
        let status = tokio::select! {
            status = child.wait() => Ok(status),
            () = stop.stopped() => Err(AgentError::Interrupted),
            outcome = overdue(limit) => Err(self.refused(outcome, None)),
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
        Err(self.refused(outcome(status), status.code()))
    }

    fn refused(&self, outcome: String, status: Option<i32>) -> AgentError {
        AgentError::Refused {
            hook: self.hook,
            path: self.path.clone(),
            outcome,
            status,
        }
    }

    /// Returns the whole environment of the script.
    ///
    /// The agent's own variables go before the release's: a release cannot redirect the
    /// script to another PATH or HOME than the host's.
    fn variables(&self, switch: &Switch<'_>, state_file: &Path) -> BTreeMap<String, OsString> {
        let mut variables: BTreeMap<String, OsString> = BTreeMap::new();
        for (name, value) in switch.environment {
            if is_variable(name, value) {
                variables.insert(name.clone(), value.into());
            } else {
                tracing::warn!(name = %name.escape_debug(), "the release sets a variable that no process can have");
            }
        }
        for (name, value) in switch.image.into_iter().flat_map(ImageConfig::variables) {
            // What is left out is not the release's to say either.
            variables.remove(name);
            if is_variable(name, &value) {
                variables.insert(name.to_owned(), value.into());
            } else {
                tracing::warn!(
                    name,
                    size_bytes = value.len(),
                    "a variable is left out that is longer than a process can have; STATEFILE has it"
                );
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

/// Whether the kernel hands it over.
fn is_variable(name: &str, value: &str) -> bool {
    // The sign between them and the NUL behind them count.
    let is_short = name.len() + value.len() + 2 <= LONGEST_VARIABLE;
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0') && is_short
}

/// Writes the release as the script may read it, and nobody else, since an image's environment
/// may hold secrets; removed when dropped.
fn write_state_file(switch: &Switch<'_>) -> Result<tempfile::NamedTempFile, AgentError> {
    let directory = switch.directory;
    let document = StateFile {
        record: switch.new,
        image: switch.image,
    };
    let write = || -> std::io::Result<_> {
        let mut file = tempfile::Builder::new()
            .prefix(&format!("{TEMPORARY}statefile-"))
            .suffix(".json")
            .permissions(Permissions::from_mode(PRIVATE))
            .tempfile_in(directory)?;
        file.write_all(&document.to_json())?;
        Ok(file)
    };
    write().map_err(AgentError::io("write STATEFILE in", directory))
}

/// Returns what to say of a script once its time is over.
async fn overdue(limit: Option<Duration>) -> String {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    sleep(limit).await;
    let limit = humantime::format_duration(limit);
    format!("was ended, having run for {limit}\nhint: -script-timeout gives it more time")
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
