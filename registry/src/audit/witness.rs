//! What is known of somebody before he does anything: who he is, and from where he comes. Made by
//! `http` for each request that may change something, and by `jobs` for upkeep.

use std::{net::SocketAddr, sync::Arc};

use deploy_spec::{
    RepositoryName,
    audit::{Actor, Entry, action, kind},
};

use super::AuditLog;
use crate::{
    auth::{Caller, Subject},
    store::{Change, Changes},
};

/// A client chooses these: so much of them is written down.
const TEXT_MAX: usize = 256;

/// Where a request comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) peer: Option<SocketAddr>,
    /// The request's id.
    pub(crate) request: Option<String>,
    /// What the client calls itself.
    pub(crate) agent: Option<String>,
}

/// Something that somebody wanted and did not get.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// Method and path.
    pub(crate) asked: String,
    pub(crate) repository: Option<RepositoryName>,
    pub(crate) reference: Option<String>,
    pub(crate) status: u16,
    pub(crate) reason: String,
}

/// Writes down what somebody does. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness(Option<Arc<Seen>>);

#[derive(Debug)]
struct Seen {
    log: AuditLog,
    actor: Actor,
    origin: Origin,
}

impl Witness {
    /// Returns one that knows who it is, and from where; one that is blind where nothing is
    /// written down.
    pub(crate) fn new(log: &AuditLog, caller: &Caller, origin: Origin) -> Self {
        Self::of(log, actor(caller), origin)
    }

    /// Returns one of what the registry does itself.
    pub(crate) fn upkeep(log: &AuditLog) -> Self {
        Self::of(log, Actor::unnamed(kind::REGISTRY), Origin::default())
    }

    fn of(log: &AuditLog, actor: Actor, origin: Origin) -> Self {
        Self(log.is_on().then(|| {
            Arc::new(Seen {
                log: log.clone(),
                actor,
                origin,
            })
        }))
    }

    /// Writes down that he changed something.
    pub(crate) fn saw(&self, repository: &RepositoryName, change: Change) {
        self.saw_for(repository, change, None);
    }

    /// Writes down all that he changed.
    pub(crate) fn saw_all(&self, repository: &RepositoryName, changes: Changes) {
        for change in changes.into_inner() {
            self.saw(repository, change);
        }
    }

    /// Writes down that he changed something, and why.
    pub(crate) fn saw_for(
        &self,
        repository: &RepositoryName,
        change: Change,
        reason: Option<&str>,
    ) {
        let Some(seen) = &self.0 else {
            return;
        };
        let (action, reference, before, after) = match change {
            Change::ManifestPut(digest) => {
                (action::MANIFEST_PUT, digest.to_string(), None, Some(digest))
            }
            Change::ManifestDeleted(digest) => (
                action::MANIFEST_DELETE,
                digest.to_string(),
                Some(digest),
                None,
            ),
            Change::TagMoved { tag, before, after } => {
                (action::TAG_MOVE, tag.to_string(), before, Some(after))
            }
            Change::TagDeleted { tag, before } => {
                (action::TAG_DELETE, tag.to_string(), before, None)
            }
            Change::BlobPut(digest) => (action::BLOB_PUT, digest.to_string(), None, Some(digest)),
            Change::BlobDeleted(digest) => {
                (action::BLOB_DELETE, digest.to_string(), Some(digest), None)
            }
        };
        let mut entry = seen.entry(action);
        entry.repository = Some(repository.to_string());
        entry.reference = Some(reference);
        (entry.before, entry.after) = (before, after);
        entry.reason = reason.map(str::to_owned);
        seen.log.add(&entry);
    }

    /// Writes down that he proved who he is.
    pub(crate) fn logged_in(&self) {
        if let Some(seen) = &self.0 {
            seen.log.add(&seen.entry(action::LOGIN));
        }
    }

    /// Writes down that he was refused, or counts it where he is refused often.
    pub(crate) fn refused(&self, attempt: Attempt) {
        if let Some(seen) = &self.0 {
            let address = seen.origin.peer.map(|peer| peer.ip());
            seen.log.refused(address, seen.refusal(attempt));
        }
    }

    /// Writes down that he was refused, unless he comes back soon and is let in: that is how
    /// clients learn that they are to say who they are.
    pub(crate) fn challenged(&self, attempt: Attempt) {
        if let Some(seen) = &self.0 {
            let address = seen.origin.peer.map(|peer| peer.ip());
            seen.log.challenged(address, seen.refusal(attempt));
        }
    }

    /// Takes note that he was let into a repository.
    pub(crate) fn admitted(&self, repository: &RepositoryName) {
        if let Some(seen) = &self.0
            && let Some(peer) = seen.origin.peer
        {
            seen.log.admitted(peer.ip(), repository);
        }
    }
}

impl Seen {
    fn entry(&self, action: &'static str) -> Entry {
        let mut entry = self.log.entry(action, self.actor.clone());
        entry.peer = self.origin.peer.map(|peer| peer.to_string());
        entry.request.clone_from(&self.origin.request);
        entry.agent = self.origin.agent.as_deref().map(cut);
        entry
    }

    fn refusal(&self, attempt: Attempt) -> Entry {
        let mut entry = self.entry(action::REFUSED);
        entry.asked = Some(cut(&attempt.asked));
        entry.repository = attempt.repository.map(|name| name.to_string());
        entry.reference = attempt.reference;
        entry.status = Some(attempt.status);
        entry.reason = Some(cut(&attempt.reason));
        entry
    }
}

fn actor(caller: &Caller) -> Actor {
    let (kind, name) = match &caller.subject {
        Subject::Anonymous => (kind::ANONYMOUS, None),
        Subject::Key(fingerprint) => (kind::KEY, Some(fingerprint.to_string())),
        Subject::User(name) => (kind::USER, Some(cut(name))),
    };
    let comment = Some(cut(&caller.comment)).filter(|comment| !comment.is_empty());
    Actor {
        name,
        comment,
        ..Actor::unnamed(kind)
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
