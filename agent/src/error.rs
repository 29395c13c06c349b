//! What can go wrong on a host. Returned by the steps of a deployment; logged once, by
//! `runner`.

use std::{io, path::PathBuf};

use deploy_spec::{Digest, release::ReleaseError};
use deployctl::archive::ArchiveError;

use crate::{hooks::Hook, room::NoRoom, source::SourceError};

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Another agent works in the directory.
    #[error("another deploy-agent{} works in `{}`", holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// Its process, where the lock file says so.
        holder: Option<u32>,
    },
    /// No agent has ever worked in the directory.
    #[error("no agent has worked in `{}`\nhint: name the agent's directory by -dir", directory.display())]
    NoAgent {
        /// The directory.
        directory: PathBuf,
    },
    /// A document of the agent cannot be read.
    #[error("cannot read `{}`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The agent was asked for something and has not done it.
    #[error(
        "the agent{} in `{}` {reason}",
        holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
        directory.display()
    )]
    Unanswered {
        /// The directory.
        directory: PathBuf,
        /// Its process, where the lock file says so.
        holder: Option<u32>,
        /// Why, as a verb.
        reason: &'static str,
    },
    /// Somebody else does something in the directory, and goes on doing it.
    #[error(
        "somebody else{} is at work in `{}`: {doing}\nhint: try again when that is done",
        holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
        directory.display()
    )]
    Busy {
        /// The directory.
        directory: PathBuf,
        /// Its process, where the file says so.
        holder: Option<u32>,
        /// What the journal says is being done.
        doing: String,
    },
    /// A deployment was begun that an agent has to end first.
    #[error(
        "a deployment in `{}` has not ended: {doing}\nhint: the agent goes on with it when it runs", directory.display()
    )]
    Unfinished {
        /// The directory.
        directory: PathBuf,
        /// What the journal says is being done.
        doing: String,
    },
    /// Nothing is deployed that could be looked at.
    #[error("nothing is deployed in `{}`", directory.display())]
    NothingDeployed {
        /// The directory.
        directory: PathBuf,
    },
    /// The channel that is followed does not exist.
    #[error(
        "`{name}` does not exist\nhint: -name and -channel say what is looked for, -addr where"
    )]
    NoChannel {
        /// How people know it.
        name: String,
    },
    /// Layers are needed that are not in the cache, and nobody said where they are.
    #[error(
        "the cache does not have {layers} of the release `{id}`\nhint: name the source by -addr, and they are fetched"
    )]
    NoLayers {
        /// The release.
        id: Digest,
        /// Which, as people write them.
        layers: String,
    },
    /// A file system operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A script cannot be run.
    #[error("{hook} `{}` {reason}", path.display())]
    Script {
        /// Which of them.
        hook: Hook,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A script ran and did not succeed.
    #[error("{hook} `{}` {outcome}", path.display())]
    Refused {
        /// Which of them.
        hook: Hook,
        /// Where it is.
        path: PathBuf,
        /// `exited with status 7`, `was ended by signal 9`.
        outcome: String,
        /// Its exit status, where it had one.
        status: Option<i32>,
    },
    /// There is nothing to go back to.
    #[error(
        "the tree of the release `{id}` is gone: there is nothing to go back to\nhint: deploy a newer release"
    )]
    NoWayBack {
        /// The release that is recorded as deployed.
        id: Digest,
    },
    /// No release was deployed before the deployed one, or all of them are bad.
    #[error("nothing good was deployed before: there is nothing to go back to")]
    NothingBefore,
    /// The source of releases failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The channel's manifest is no release.
    #[error("`{id}` is no release that can be deployed")]
    Release {
        /// Its digest.
        id: Digest,
        /// Why it is none.
        #[source]
        source: ReleaseError,
    },
    /// Nobody vouches for the channel's release who may.
    #[error("{release} is not deployed: {why}")]
    NotAdmitted {
        /// What people call it.
        release: String,
        /// What is lacking.
        why: String,
    },
    /// What layers should make cannot be said, or not be compared.
    #[error("cannot compare release `{id}`")]
    Compare {
        /// The release.
        id: Digest,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// A layer cannot be unpacked.
    #[error("cannot unpack release `{id}`")]
    Unpack {
        /// The release.
        id: Digest,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// A file system has too little room for a release.
    #[error(transparent)]
    NoRoom(Box<NoRoom>),
    /// Something in the agent's directory cannot be removed.
    #[error(transparent)]
    Remove(ArchiveError),
    /// The agent was told to stop.
    #[error("interrupted")]
    Interrupted,
}

impl AgentError {
    /// Returns the operation's error for use with `map_err`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Whether a script of the operator said no, and it was not the host that failed.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Whether it is a signature that is lacking: that may last, and is no failure of the host.
    pub fn is_lack_of_signature(&self) -> bool {
        matches!(self, Self::NotAdmitted { .. })
    }

    /// Returns how long the source of releases wants to be left alone, where it says so.
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Source(error) => error.retry_after(),
            _ => None,
        }
    }

    /// Whether a disk is full.
    pub fn is_storage_full(&self) -> bool {
        let full = |source: &io::Error| {
            matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        };
        match self {
            Self::Io { source, .. } => full(source),
            Self::Source(error) => error.is_storage_full(),
            Self::NoRoom(_) => true,
            Self::Unpack { source, .. } | Self::Compare { source, .. } => source.is_storage_full(),
            _ => false,
        }
    }
}
