//! Asks something of the agent that works in a directory, or of the next one: to try again what
//! failed, or to go back. Called by `main`.
//!
//! A request is a file, which outlives whatever happens to the agent, and SIGHUP, which has a
//! running one look for it at once; the file goes when it is seen to. A socket would need a place
//! with a short name and a protocol for the same answer.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    directory::{Place, Request},
    error::AgentError,
    file,
    journal::Entry,
    record::Remembered,
    status::load,
};

/// How long an agent may take to answer. It clears its list at once, whatever it does; going back
/// has to wait for the end of a deployment.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a lock may name a process that does not hold it: one that has just taken it writes its
/// number next.
const SETTLING: Duration = Duration::from_millis(500);
/// How often it is looked whether it has.
const TICK: Duration = Duration::from_millis(20);

/// Who sees to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The agent that works there, at once.
    Agent(u32),
    /// Nobody works there: the next one.
    TheNext,
}

/// Clears the bad-list of the agent in `root`; returns how many releases were on it. Without
/// `state` its state is in `state.json` within.
///
/// # Errors
/// [`AgentError::NoAgent`] where none ever worked there; [`AgentError::Unanswered`] where the
/// one that does cannot be reached: the next one will see to the request.
pub fn retry(root: &Path, state: Option<&Path>) -> Result<(Asked, usize), AgentError> {
    let place = Place::find(root, state)?;
    let entry: Entry = load(&place.journal)?.unwrap_or_default();
    let asked = ask(&place, Request::Retry)?;
    Ok((asked, entry.bad.len()))
}

/// Has the agent in `root` go back to the release that was deployed before the present one, which
/// is bad from then on; returns what people call the two, the present one first.
///
/// # Errors
/// As of [`retry`]; [`AgentError::NothingBefore`], [`AgentError::NoWayBack`].
pub fn rollback(root: &Path, state: Option<&Path>) -> Result<(Asked, [String; 2]), AgentError> {
    let place = Place::find(root, state)?;
    let entry: Entry = load(&place.journal)?.unwrap_or_default();
    let (Some(deployed), Some(before)) = (&entry.deployed, entry.before()) else {
        return Err(AgentError::NothingBefore);
    };
    if !place.has_tree(&before.record.id) {
        return Err(AgentError::NoWayBack {
            id: before.record.id.clone(),
        });
    }
    let asked = ask(&place, Request::Rollback)?;
    Ok((asked, [deployed, before].map(Remembered::name)))
}

/// Leaves a request; returns when the agent that works there has seen to it, or when it turns
/// out that none does.
fn ask(place: &Place, request: Request) -> Result<Asked, AgentError> {
    let file = place.request(request);
    file::replace(&file, b"", file::PUBLIC)?;
    let begun = Instant::now();
    let mut told = None;
    loop {
        let holder = place.agent()?;
        match (told, holder) {
            (Some(pid), _) if !file.exists() => return Ok(Asked::Agent(pid)),
            (_, None) => return Ok(Asked::TheNext),
            (told_one, Some(Some(pid))) if told_one != Some(pid) => {
                if place.is_open_in(pid) {
                    tell(place, pid)?;
                    told = Some(pid);
                } else if begun.elapsed() >= SETTLING {
                    let reason = "cannot be seen from here: it belongs to another user or container\n\
                                  hint: it will see to it when it is started the next time, or gets SIGHUP";
                    return Err(unanswered(place, Some(pid), reason));
                }
            }
            _ => {}
        }
        if begun.elapsed() >= PATIENCE {
            let reason = "has something else to do first\nhint: it will see to it after that";
            return Err(unanswered(place, holder.flatten(), reason));
        }
        sleep(TICK);
    }
}

/// Has the agent look for requests.
fn tell(place: &Place, pid: u32) -> Result<(), AgentError> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let told = process.map(|process| kill_process(process, Signal::HUP));
    match told {
        Some(Ok(())) => Ok(()),
        _ => Err(unanswered(
            place,
            Some(pid),
            "cannot be signalled from here",
        )),
    }
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
    use crate::{directory::Directory, journal::Bad, record::Record};

    #[test]
    fn without_an_agent_the_next_one_is_asked() {
        let place = tempfile::tempdir().unwrap();
        for error in [
            retry(place.path(), None).unwrap_err(),
            rollback(place.path(), None).unwrap_err(),
        ] {
            assert!(matches!(error, AgentError::NoAgent { .. }), "{error}");
        }
        drop(Directory::open(place.path(), None).unwrap());
        let (asked, count) = retry(place.path(), None).unwrap();
        assert_eq!((asked, count), (Asked::TheNext, 0));
        assert!(place.path().join("retry").exists());
        let journal = place.path().join("journal.json");
        fs::write(&journal, "{ no json").unwrap();
        let error = retry(place.path(), None).unwrap_err();
        assert!(matches!(error, AgentError::Damaged { .. }), "{error}");
    }

    #[test]
    fn there_has_to_be_something_to_go_back_to() {
        let place = tempfile::tempdir().unwrap();
        drop(Directory::open(place.path(), None).unwrap());
        let known = |name: &str| {
            Remembered::from(Record {
                release: Some(name.to_owned()),
                ..Record::bare(&Digest::sha256(name.as_bytes()), "project")
            })
        };
        let mut entry = Entry::default();
        let mut ask = |change: &dyn Fn(&mut Entry)| {
            change(&mut entry);
            let json = serde_json::to_vec(&entry).unwrap();
            fs::write(place.path().join("journal.json"), json).unwrap();
            rollback(place.path(), None)
        };
        let error = ask(&|entry| entry.commit(known("v1"), 16)).unwrap_err();
        assert!(matches!(error, AgentError::NothingBefore), "{error}");
        let error = ask(&|entry| entry.commit(known("v2"), 16)).unwrap_err();
        assert!(matches!(error, AgentError::NoWayBack { .. }), "{error}");
        assert!(!place.path().join("rollback").exists());
        let tree = known("v1").record.id.file_name();
        fs::create_dir(place.path().join("unpacked").join(tree)).unwrap();
        let (asked, names) = ask(&|_| {}).unwrap();
        assert_eq!(asked, Asked::TheNext);
        assert!(
            names[0].starts_with("v2 (") && names[1].starts_with("v1 ("),
            "{names:?}"
        );
        assert!(place.path().join("rollback").exists());
        let error = ask(&|entry| {
            entry.condemn(Bad {
                id: known("v1").record.id,
                release: None,
                when: jiff::Timestamp::UNIX_EPOCH,
                why: "it was".to_owned(),
            });
        });
        assert!(matches!(error, Err(AgentError::NothingBefore)), "{error:?}");
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
