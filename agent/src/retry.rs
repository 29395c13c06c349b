//! Asks for another try of what failed: of the agent that works in a directory, or in its stead.
//! Called by `main`.
//!
//! The request is a file, which outlives whatever happens to the agent, and SIGHUP, which has a
//! running one look at it at once; the file goes when it is done. A socket would need a place
//! with a short name and a protocol for the same answer.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    directory::{Directory, Place},
    error::AgentError,
    file,
    journal::{Entry, Journal},
    status::load,
};

/// How long an agent may take to answer: it does so between any two of its steps, and in the
/// middle of those that take time.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const TICK: Duration = Duration::from_millis(20);

/// Who forgave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// The agent that works there, which tries at once.
    ByAgent(u32),
    /// Nobody works there: so many releases may be deployed again by the next one.
    ForTheNext(usize),
}

/// Clears the bad-list of the agent in `root`. Without `state` its state is in `state.json`
/// within.
///
/// # Errors
/// [`AgentError::NoAgent`] where none ever worked there; [`AgentError::Unanswered`] where the
/// one that does cannot be reached: the next one will honour the request.
pub fn retry(root: &Path, state: Option<&Path>) -> Result<Retried, AgentError> {
    let place = Place::find(root, state)?;
    let end = Instant::now() + PATIENCE;
    let mut told = None;
    loop {
        match Directory::open(root, state) {
            Ok(directory) => return clear(&place, &directory).map(Retried::ForTheNext),
            Err(AgentError::Locked { holder, .. }) => {
                if let Some(pid) = told
                    && !place.retry.exists()
                {
                    return Ok(Retried::ByAgent(pid));
                }
                if told.is_none() || told != holder {
                    told = tell(&place, holder)?;
                }
                if Instant::now() >= end {
                    return Err(unanswered(&place, holder, "has not answered"));
                }
                sleep(TICK);
            }
            Err(error) => return Err(error),
        }
    }
}

fn clear(place: &Place, directory: &Directory) -> Result<usize, AgentError> {
    let entry: Entry = load(&place.journal)?.unwrap_or_default();
    let count = entry.bad.len();
    if count > 0 {
        Journal::new(place.journal.clone(), entry).write(|entry| entry.bad.clear())?;
    }
    directory.remove_retry()?;
    Ok(count)
}

/// Leaves the request and tells the agent; returns whom, once there is one to tell.
fn tell(place: &Place, holder: Option<u32>) -> Result<Option<u32>, AgentError> {
    file::replace(&place.retry, b"")?;
    // One that has just taken the lock writes its number next.
    let Some(pid) = holder else { return Ok(None) };
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(process) = process.filter(|_| place.is_open_in(pid)) else {
        let reason = "cannot be seen from here: it belongs to another user or container";
        return Err(unanswered(place, holder, reason));
    };
    kill_process(process, Signal::HUP)
        .map_err(|_| unanswered(place, holder, "cannot be signalled from here"))?;
    Ok(Some(pid))
}

fn unanswered(place: &Place, holder: Option<u32>, reason: &'static str) -> AgentError {
    AgentError::Unanswered {
        directory: place.root.clone(),
        holder,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use deploy_spec::Digest;

    use super::*;
    use crate::journal::Bad;

    #[test]
    fn without_an_agent_the_list_is_cleared_for_the_next() {
        let place = tempfile::tempdir().unwrap();
        let error = retry(place.path(), None).unwrap_err();
        assert!(matches!(error, AgentError::NoAgent { .. }), "{error}");
        drop(Directory::open(place.path(), None).unwrap());
        assert_eq!(retry(place.path(), None).unwrap(), Retried::ForTheNext(0));
        let mut entry = Entry::default();
        entry.condemn(Bad {
            id: Digest::sha256(b"b"),
            release: None,
            when: jiff::Timestamp::UNIX_EPOCH,
            why: "it was".to_owned(),
        });
        let journal = place.path().join("journal.json");
        fs::write(&journal, serde_json::to_vec(&entry).unwrap()).unwrap();
        fs::write(place.path().join("retry"), "").unwrap();
        assert_eq!(retry(place.path(), None).unwrap(), Retried::ForTheNext(1));
        let entry: Entry = load(&journal).unwrap().unwrap();
        assert!(entry.bad.is_empty());
        assert!(!place.path().join("retry").exists());
        // Whatever a damaged journal said, the agent is to set it aside.
        fs::write(&journal, "{ no json").unwrap();
        let error = retry(place.path(), None).unwrap_err();
        assert!(matches!(error, AgentError::Damaged { .. }), "{error}");
    }

    #[test]
    fn an_agent_that_cannot_be_seen_is_not_signalled() {
        let place = tempfile::tempdir().unwrap();
        let _held = Directory::open(place.path(), None).unwrap();
        // As the number reads in another container: here it is somebody else's, or nobody's.
        fs::write(place.path().join("lock"), "1\n").unwrap();
        let error = retry(place.path(), None).unwrap_err();
        assert!(
            error.to_string().contains("cannot be seen from here"),
            "{error}"
        );
        // The request stays for the next one.
        assert!(place.path().join("retry").exists());
    }
}
