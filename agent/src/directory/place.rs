//! The directory of an agent as others see it, who may come at any time. Part of `directory`.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use deploy_spec::Digest;

use super::{JOURNAL, LOCK, Lock, Request, STATE, UNPACKED};
use crate::error::AgentError;

/// The directory of an agent, seen from outside: read, and never locked for longer than a
/// moment.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) journal: PathBuf,
    lock: PathBuf,
}

impl Place {
    /// Returns the directory that an agent works in, or has worked in.
    ///
    /// # Errors
    /// [`AgentError::NoAgent`] where none ever has; [`AgentError::Io`].
    pub(crate) fn find(root: &Path, state: Option<&Path>) -> Result<Self, AgentError> {
        let no_agent = || AgentError::NoAgent {
            directory: root.to_owned(),
        };
        let lock = root.join(LOCK);
        match lock.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(no_agent()),
            Err(error) => return Err(AgentError::io("read", lock)(error)),
        }
        let root = root
            .canonicalize()
            .map_err(AgentError::io("open directory", root))?;
        Ok(Self {
            state: state.map_or_else(|| root.join(STATE), Path::to_owned),
            journal: root.join(JOURNAL),
            lock: root.join(LOCK),
            root,
        })
    }

    /// Returns the file of a request.
    pub(crate) fn request(&self, request: Request) -> PathBuf {
        self.root.join(request.name())
    }

    /// Whether the tree of a release is there.
    pub(crate) fn has_tree(&self, id: &Digest) -> bool {
        self.root.join(UNPACKED).join(id.file_name()).is_dir()
    }

    /// Returns whether an agent works there, and its process, where the lock says so.
    pub(crate) fn agent(&self) -> Result<Option<Option<u32>>, AgentError> {
        Lock::look(&self.lock)
    }

    /// Whether a process has the lock file open. A number alone says nothing: it may be that of
    /// a process in another container.
    pub(crate) fn is_open_in(&self, pid: u32) -> bool {
        let identity = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let lock = identity(&self.lock);
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        let files = files.into_iter().flatten().flatten();
        lock.is_some() && { files }.any(|file| identity(&file.path()) == lock)
    }
}
