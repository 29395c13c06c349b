//! What the demo leaves to be put away: a temporary directory and the processes that it started. Put away at the
//! end, after a failure, and when the demo is interrupted. Called by the demo's other files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use deploy_tests::wait;

/// The demo's directory and its running processes.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    inner: Arc<Mutex<Inner>>,
    directory: PathBuf,
}

#[derive(Debug)]
struct Inner {
    cleared: bool,
    interrupted: bool,
    processes: Vec<u32>,
    /// Files that hold the pid of a process which something else started.
    pid_files: Vec<PathBuf>,
}

impl Stage {
    /// Makes the directory, and sees to it that an interruption clears the stage.
    pub(crate) fn set() -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("deploy-demo-")
            .tempdir()
            .context("make a directory")?
            .keep();
        let inner = Inner {
            cleared: false,
            interrupted: false,
            processes: Vec::new(),
            pid_files: Vec::new(),
        };
        let stage = Self {
            inner: Arc::new(Mutex::new(inner)),
            directory,
        };
        let at_interruption = stage.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("watch for signals")?;
        std::thread::spawn(move || {
            runtime.block_on(interrupted());
            at_interruption.lock().interrupted = true;
            at_interruption.clear();
            std::process::exit(130);
        });
        Ok(stage)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Remembers a process of ours.
    pub(crate) fn process(&self, pid: u32) {
        self.lock().processes.push(pid);
    }

    /// Remembers a file that will hold the pid of a process.
    pub(crate) fn pid_file(&self, path: PathBuf) {
        self.lock().pid_files.push(path);
    }

    /// All processes that run now, the ones started last first.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let inner = self.lock();
        let others = inner
            .pid_files
            .iter()
            .filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
        others
            .chain(inner.processes.iter().rev().copied())
            .collect()
    }

    /// Does not return once the demo is interrupted: what fails then fails because of that, and the demo is about to
    /// end.
    pub(crate) fn stop_if_interrupted(&self) {
        while self.lock().interrupted {
            std::thread::park();
        }
    }

    /// Leaves everything as it is.
    pub(crate) fn keep(&self) {
        self.lock().cleared = true;
    }

    /// Ends all processes by their ids, waits until they are gone, and removes the directory. Once is enough.
    pub(crate) fn clear(&self) {
        let processes = self.processes();
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.cleared, true) {
            return;
        }
        for pid in processes
            .into_iter()
            .filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        {
            kill_process(pid, Signal::TERM).ok();
            let gone = || test_kill_process(pid).is_err() || is_zombie(pid);
            if wait::until(std::time::Duration::from_secs(10), || gone().then_some(())).is_none() {
                kill_process(pid, Signal::KILL).ok();
            }
        }
        std::fs::remove_dir_all(&self.directory).ok();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Whoever panicked with it has nothing half done: every change to it is one statement.
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// True for a process that has ended and was not waited for, as our own children are until we end.
fn is_zombie(pid: Pid) -> bool {
    let status =
        std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    status
        .rsplit(") ")
        .next()
        .is_some_and(|rest| rest.starts_with('Z'))
}

/// Returns when the demo is asked to stop.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        // Without handlers the signals end the demo at once, as they do any program.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
