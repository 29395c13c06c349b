//! Waiting for a condition, with a deadline. Called by the harness and by every scenario that follows
//! something that happens in another process.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(20);

/// How long a scenario waits for something that takes well under a second on an idle machine. It is this
/// long because tests share few cores with each other and with compilers.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Returns what `look` finds, looking until it finds something or the time is over, then `None`.
pub fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(STEP);
    }
}

/// Waits until `holds` is true.
///
/// # Panics
/// When it is not within [`PATIENCE`]; `what` says in the message what was waited for.
#[track_caller]
pub fn until_true(what: &str, mut holds: impl FnMut() -> bool) {
    if until(PATIENCE, || holds().then_some(())).is_none() {
        panic!("waited {PATIENCE:?} in vain for: {what}");
    }
}
