//! Runs the user's command again and again while something is measured, a collection for
//! instance. For `bench`.

use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::peer::Peer;

/// How often it is looked whether the command is done.
const LOOK: Duration = Duration::from_millis(5);

/// Runs `work` with the command beside it; fails where the command failed, which would mean
/// that nothing was measured beside it.
pub(crate) fn beside<T: Send>(
    command: &str,
    peer: &Peer,
    work: impl FnOnce() -> T,
) -> anyhow::Result<T> {
    let mut child = start(command, peer).context("start the command of `--during`")?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let runner = scope.spawn(|| -> anyhow::Result<()> {
            while !done.load(Ordering::Relaxed) {
                if let Some(status) = child.try_wait()? {
                    ensure!(
                        status.success(),
                        "the command of `--during` ended with {status}"
                    );
                    child = start(command, peer)?;
                }
                thread::sleep(LOOK);
            }
            child.kill()?;
            child.wait()?;
            Ok(())
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        runner
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(result)
    })
}

fn start(command: &str, peer: &Peer) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", command])
        .env("BENCH_NAME", &peer.name)
        .env("BENCH_URL", format!("http://{}", peer.authority))
        .env(
            "BENCH_PID",
            peer.process_id.map(|id| id.to_string()).unwrap_or_default(),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}
