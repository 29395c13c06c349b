//! The verbs, one file each: arguments → one thing of the library → print.

mod completions;
mod man;
mod serve;

use anyhow::{Context as _, Result};

use crate::arguments::{Arguments, Verb};

/// As many file operations may be under way at once. More would not make a disk faster, and
/// each takes a thread.
const BLOCKING_THREADS: usize = 128;

/// Does what was asked for.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    match arguments.verb {
        None => serve::run(arguments.serve),
        Some(Verb::Serve(serve)) => serve::run(*serve),
        Some(Verb::Completions(verb)) => completions::run(&verb),
        Some(Verb::Man(verb)) => man::run(&verb),
    }
}

/// Runs a verb's work to its end.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(work)
}
