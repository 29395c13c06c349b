//! How many threads share a job. Asked by whatever spreads its work.

use std::thread;

/// Returns how many threads do something at once.
pub(super) fn parallelism() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
