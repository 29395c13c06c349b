//! The agent's directory: where everything lies, who holds it, which tree is the current one.
//! The only place that joins its paths, with its parts.
//!
//! ```text
//! lock                      held while an agent works here, with its process id
//! work                      held while something is done, by the agent or by a verb beside it
//! state.json                the release that is deployed
//! journal.json              what is being done
//! retry, rollback           there while somebody asks for that
//! cache/<algorithm>/<hex>   layers as fetched; <hex>.part while they come, and <hex>.part.state,
//!                           how far that is hashed
//! unpacked/<id>/            complete trees; unpacked/.staging-<id>/ while one is made
//! current                   → unpacked/<id>
//! ```

mod lock;
mod place;

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use deploy_spec::Digest;
use deployctl::archive::remove_tree;
use serde::Serialize;

pub(crate) use lock::{Lock, Taken};
pub(crate) use place::Place;

use crate::{
    error::AgentError,
    file::{self, TEMPORARY},
};

/// Held while an agent works in the directory.
const LOCK: &str = "lock";
/// Held while something is done in it.
const WORK: &str = "work";
/// What is deployed, unless it is kept elsewhere.
const STATE: &str = "state.json";
const JOURNAL: &str = "journal.json";
const UNPACKED: &str = "unpacked";
/// Trees under this name are being made.
const STAGING: &str = ".staging-";

/// What an agent can be asked for: a file, which is there until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// To clear the bad-list.
    Retry,
    /// To go back to what was deployed before.
    Rollback,
}

impl Request {
    /// Returns the verb by which it is made, which is the name of its file too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Rollback => "rollback",
        }
    }
}

/// A directory that this process, and no other agent, works in; released when dropped.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    state: PathBuf,
    /// None of a process that only has a turn beside the agent.
    _lock: Option<Lock>,
}

impl Directory {
    /// Takes the directory, which is made where it is missing, and everything in it that the
    /// agent needs. Without `state` the state is kept in `state.json` within.
    ///
    /// # Errors
    /// [`AgentError::Locked`] where another agent works in it; [`AgentError::Io`].
    pub fn open(root: &Path, state: Option<&Path>) -> Result<Self, AgentError> {
        fs::create_dir_all(root).map_err(AgentError::io("create directory", root))?;
        // Absolute: the script gets these paths, and may have another idea of where it is.
        let root = root
            .canonicalize()
            .map_err(AgentError::io("open directory", root))?;
        let lock = Lock::take(&root)?;
        let state = match state {
            Some(state) => writable_place(state)?,
            None => root.join(STATE),
        };
        let directory = Self {
            root,
            state,
            _lock: Some(lock),
        };
        let unpacked = directory.unpacked();
        fs::create_dir_all(&unpacked).map_err(AgentError::io("create directory", unpacked))?;
        Ok(directory)
    }

    /// Returns the directory of an agent, which may be at work there: for whoever waits for a
    /// turn before anything is done.
    pub(crate) fn beside(place: &Place) -> Self {
        Self {
            root: place.root.clone(),
            state: place.state.clone(),
            _lock: None,
        }
    }

    /// Takes the turn to do something here. The agent takes one for each step, and gives way in
    /// between; the system gives it back when the process ends, however it ends.
    pub(crate) fn turn(&self) -> Result<Result<Lock, Taken>, AgentError> {
        Lock::take_turn(self.root.join(WORK))
    }

    /// Returns the directory itself, absolute.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Returns the state file.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// Returns the journal.
    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join(JOURNAL)
    }

    /// Whether somebody asks for this.
    pub(crate) fn is_asked(&self, request: Request) -> bool {
        self.root.join(request.name()).exists()
    }

    /// Tells whoever asks that it is seen to.
    pub(crate) fn answer(&self, request: Request) -> Result<(), AgentError> {
        let path = self.root.join(request.name());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(AgentError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Returns the directory of the fetched layers.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Returns the directory of the trees.
    pub(crate) fn unpacked(&self) -> PathBuf {
        self.root.join(UNPACKED)
    }

    /// Returns where the tree of a release is, or would be.
    pub(crate) fn tree(&self, id: &Digest) -> PathBuf {
        self.unpacked().join(id.file_name())
    }

    /// Whether the tree of a release is there: it is complete then.
    pub(crate) fn has_tree(&self, id: &Digest) -> bool {
        self.tree(id).is_dir()
    }

    /// Returns an empty directory to make the tree of a release in.
    pub(crate) fn create_staging(&self, id: &Digest) -> Result<PathBuf, AgentError> {
        let staging = self.unpacked().join(format!("{STAGING}{}", id.file_name()));
        remove_tree(&staging).map_err(AgentError::Remove)?;
        // Nobody else shall look into a tree that is not complete.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&staging)
            .map_err(AgentError::io("create directory", &staging))?;
        Ok(staging)
    }

    /// Removes what was being made in `unpacked`, by whoever had the turn.
    pub(crate) fn remove_staging(&self) -> Result<(), AgentError> {
        for staging in self.staging()? {
            remove_tree(&staging).map_err(AgentError::Remove)?;
        }
        Ok(())
    }

    /// Returns trees that are being made, or were when somebody was ended.
    pub(crate) fn staging(&self) -> Result<Vec<PathBuf>, AgentError> {
        let entries = entries(&self.unpacked())?.into_iter();
        let staging = entries.filter(|(name, _)| name.starts_with(STAGING));
        Ok(staging.map(|(_, path)| path).collect())
    }

    /// Makes the tree in `staging`, which must be on stable storage, the one of a release.
    pub(crate) fn publish(&self, staging: &Path, id: &Digest) -> Result<(), AgentError> {
        let tree = self.tree(id);
        fs::rename(staging, &tree).map_err(AgentError::io("publish", &tree))?;
        file::sync_directory(&self.unpacked())
    }

    /// Returns the release that `current` points to, where it points to one.
    pub(crate) fn current(&self) -> Option<Digest> {
        let target = fs::read_link(self.root.join("current")).ok()?;
        let name = target.strip_prefix("unpacked").ok()?.to_str()?;
        Digest::from_file_name(name).ok()
    }

    /// Points `current` to the tree of a release, by one rename.
    pub(crate) fn switch(&self, id: &Digest) -> Result<(), AgentError> {
        // Relative, so that the directory can be moved.
        let target = Path::new("unpacked").join(id.file_name());
        file::replace_link(&self.root.join("current"), &target)
    }

    /// Removes `current`; nothing happens where there is none.
    pub(crate) fn remove_current(&self) -> Result<(), AgentError> {
        let path = self.root.join("current");
        match fs::remove_file(&path) {
            Ok(()) => file::sync_directory(&self.root),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(AgentError::io("remove", path)(error)),
        }
    }

    /// Removes trees that were not completed, and files that were not renamed.
    pub(crate) fn remove_leftovers(&self) -> Result<(), AgentError> {
        let state = self.state.parent().unwrap_or(&self.root).to_owned();
        self.remove_staging()?;
        for directory in [self.root.clone(), state] {
            for (name, path) in entries(&directory)? {
                if name.starts_with(TEMPORARY) {
                    remove_tree(&path).map_err(AgentError::Remove)?;
                }
            }
        }
        Ok(())
    }

    /// Removes every tree but those of `kept`.
    pub(crate) fn remove_trees_but(&self, kept: &[&Digest]) -> Result<(), AgentError> {
        for (id, _) in self.trees()? {
            if !kept.contains(&&id) {
                tracing::info!(release.id = %id, "removing an old tree");
                self.remove_tree(&id)?;
            }
        }
        Ok(())
    }

    /// Returns the trees that are there; what bears another name is not ours.
    pub(crate) fn trees(&self) -> Result<Vec<(Digest, PathBuf)>, AgentError> {
        let entries = entries(&self.unpacked())?.into_iter();
        let tree = |(name, path): (String, _)| Some((Digest::from_file_name(&name).ok()?, path));
        Ok(entries.filter_map(tree).collect())
    }

    /// Removes the tree of a release. It is taken out of sight before anything in it goes: half a
    /// tree must never bear the name of a complete one.
    pub(crate) fn remove_tree(&self, id: &Digest) -> Result<(), AgentError> {
        let tree = self.tree(id);
        let hidden = self.unpacked().join(format!("{STAGING}{}", id.file_name()));
        remove_tree(&hidden).map_err(AgentError::Remove)?;
        fs::rename(&tree, &hidden).map_err(AgentError::io("remove", tree))?;
        file::sync_directory(&self.unpacked())?;
        remove_tree(&hidden).map_err(AgentError::Remove)
    }
}

/// Returns names and paths in a directory; names that are no text are none of the agent's.
pub(crate) fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>, AgentError> {
    let mut entries = Vec::new();
    let failed = AgentError::io("read directory", directory);
    let read = || -> std::io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push((name, entry.path()));
            }
        }
        Ok(())
    };
    let mut read = read;
    match read() {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(entries),
    }
}

/// Returns the absolute path of a file that can be written: better known before a script has
/// run than after.
fn writable_place(path: &Path) -> Result<PathBuf, AgentError> {
    let place = || -> std::io::Result<PathBuf> {
        let path = std::path::absolute(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(std::io::ErrorKind::IsADirectory.into());
        };
        let parent = parent.canonicalize()?;
        rustix::fs::access(&parent, rustix::fs::Access::WRITE_OK)?;
        Ok(parent.join(name))
    };
    place().map_err(AgentError::io("write state file", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_agent_is_told_who_is_there() {
        let place = tempfile::tempdir().unwrap();
        let first = Directory::open(place.path(), None).unwrap();
        let error = Directory::open(place.path(), None).unwrap_err();
        let expected = Some(std::process::id());
        assert!(
            matches!(error, AgentError::Locked { holder, .. } if holder == expected),
            "{error}"
        );
        let seen = Place::find(place.path(), None).unwrap();
        assert_eq!(seen.agent().unwrap(), Some(expected));
        assert!(seen.is_open_in(std::process::id()));
        assert!(!seen.is_open_in(1) || std::process::id() == 1);
        drop(first);
        assert_eq!(seen.agent().unwrap(), None);
        Directory::open(place.path(), None).unwrap();
        let error = Place::find(&place.path().join("unpacked"), None).unwrap_err();
        assert!(matches!(error, AgentError::NoAgent { .. }), "{error}");
    }

    #[test]
    fn trees_appear_when_published_and_leftovers_go() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(&place.path().join("made"), None).unwrap();
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        for id in [&a, &b] {
            let staging = directory.create_staging(id).unwrap();
            fs::write(staging.join("file"), "x").unwrap();
            assert!(!directory.has_tree(id));
            directory.publish(&staging, id).unwrap();
            assert!(directory.has_tree(id));
        }
        assert_eq!(directory.current(), None);
        for id in [&a, &b] {
            directory.switch(id).unwrap();
            assert_eq!(directory.current().as_ref(), Some(id));
        }
        assert!(directory.path().join("current/file").exists());
        for _ in 0..2 {
            directory.remove_current().unwrap();
            assert_eq!(directory.current(), None);
        }
        directory.create_staging(&a).unwrap();
        fs::write(directory.path().join(".tmp-x"), "x").unwrap();
        directory.remove_leftovers().unwrap();
        assert_eq!(entries(&directory.unpacked()).unwrap().len(), 2);
        directory.remove_trees_but(&[&b]).unwrap();
        assert!(!directory.has_tree(&a) && directory.has_tree(&b));
    }
}
