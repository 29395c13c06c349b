//! The verbs, one file each: arguments → one thing of the library → print.

mod completions;
mod gc;
mod man;
mod scrub;
mod serve;

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::arguments::{Arguments, Verb};

/// As many file operations may be under way at once. More would not make a disk faster, and
/// each takes a thread.
const BLOCKING_THREADS: usize = 128;

/// Does what was asked for.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    match arguments.verb {
        None => serve::run(arguments.serve),
        Some(Verb::Serve(serve)) => serve::run(*serve),
        Some(Verb::Gc(verb)) => gc::run(&verb),
        Some(Verb::Scrub(verb)) => scrub::run(&verb),
        Some(Verb::Completions(verb)) => completions::run(&verb),
        Some(Verb::Man(verb)) => man::run(&verb),
    }
}

/// Returns what turns true when the program is told to stop: what has begun is finished then.
fn told_to_stop() -> Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("watch for signals")?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.send_replace(true);
        stop.closed().await;
    });
    Ok(stopped)
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
