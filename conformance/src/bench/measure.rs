//! Runs the clients of one cell against one registry, and says what was seen. For `bench`.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::peer::Peer;
use super::process::{self, Process};
use super::work::Work;

/// A client with so many errors gives up.
const ERRORS: usize = 20;

/// When clients stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    After(Duration),
    AfterOne,
}

/// What one measurement saw.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub(crate) operations: usize,
    pub(crate) bytes: u64,
    pub(crate) errors: usize,
    pub(crate) first_error: Option<String>,
    pub(crate) elapsed: Duration,
    /// Of every operation that succeeded, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// CPU time of the server.
    pub(crate) server_cpu: Option<Duration>,
    /// CPU time of this program.
    pub(crate) own_cpu: Duration,
    /// CPU time of everything else on the machine.
    pub(crate) foreign_cpu: Option<Duration>,
    /// Resident memory before, in bytes.
    pub(crate) resident: Option<u64>,
    /// The most resident memory during it; nothing where the peak could not be begun anew.
    pub(crate) peak: Option<u64>,
}

impl Sample {
    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The latency that `share` of the operations stay within.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = (self.latencies.len() as f64 * share).ceil() as usize;
        let at = rank.clamp(1, self.latencies.len().max(1)) - 1;
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    bytes: u64,
    errors: usize,
    first_error: Option<String>,
    latencies: Vec<Duration>,
    ended: Option<Instant>,
}

/// CPU times at one moment.
struct Clocks {
    server: Option<Duration>,
    own: Duration,
    machine: Option<Duration>,
}

impl Clocks {
    fn read(server: Option<Process>) -> Self {
        Self {
            server: server.and_then(Process::cpu),
            own: Process::own().cpu().unwrap_or_default(),
            machine: process::machine_cpu(),
        }
    }
}

/// Lets all workers begin at once, each on a connection of its own that is open already, and
/// waits until the last is done. With `warm` each operates once before the clock starts.
pub(crate) fn run(peer: &Peer, workers: Vec<Box<dyn Work>>, stop: Stop, warm: bool) -> Sample {
    let resident = peer.process.and_then(Process::resident);
    let fresh_peak = peer.process.is_some_and(Process::reset_peak);
    // Ready, then go: between the two the clocks are read.
    let barrier = Barrier::new(workers.len() + 1);
    let (before, began, seen) = std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|mut work| {
                let (barrier, mut connection) = (&barrier, peer.connection());
                scope.spawn(move || {
                    // What fails here fails again below, and is counted there.
                    drop(connection.open());
                    if warm {
                        drop(work.next(&mut connection));
                    }
                    barrier.wait();
                    barrier.wait();
                    client(work.as_mut(), &mut connection, stop)
                })
            })
            .collect();
        barrier.wait();
        let before = Clocks::read(peer.process);
        let began = Instant::now();
        barrier.wait();
        let seen: Vec<Seen> = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        (before, began, seen)
    });
    let after = Clocks::read(peer.process);
    let ended = seen.iter().filter_map(|seen| seen.ended).max();
    let mut sample = Sample {
        elapsed: ended.map_or(Duration::ZERO, |ended| ended - began),
        server_cpu: between(before.server, after.server),
        own_cpu: after.own.saturating_sub(before.own),
        resident,
        peak: peer.process.filter(|_| fresh_peak).and_then(Process::peak),
        ..Sample::default()
    };
    sample.foreign_cpu = between(before.machine, after.machine)
        .zip(sample.server_cpu)
        .map(|(all, server)| all.saturating_sub(server).saturating_sub(sample.own_cpu));
    for seen in seen {
        sample.bytes += seen.bytes;
        sample.errors += seen.errors;
        sample.first_error = sample.first_error.or(seen.first_error);
        sample.latencies.extend(seen.latencies);
    }
    sample.operations = sample.latencies.len();
    sample.latencies.sort_unstable();
    sample
}

fn client(work: &mut dyn Work, connection: &mut Connection, stop: Stop) -> Seen {
    let mut seen = Seen::default();
    let began = Instant::now();
    let mut last = began;
    loop {
        match work.next(connection) {
            Ok(Some(bytes)) => {
                let now = Instant::now();
                seen.latencies.push(now - last);
                seen.bytes += bytes;
                last = now;
            }
            Ok(None) => break,
            Err(error) => {
                seen.errors += 1;
                seen.first_error.get_or_insert_with(|| format!("{error:#}"));
                last = Instant::now();
            }
        }
        let done = match stop {
            Stop::After(limit) => began.elapsed() >= limit,
            Stop::AfterOne => true,
        };
        if done || seen.errors >= ERRORS {
            break;
        }
    }
    seen.ended = Some(last);
    seen
}

fn between(before: Option<Duration>, after: Option<Duration>) -> Option<Duration> {
    Some(after?.saturating_sub(before?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks() {
        let latencies: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let sample = Sample {
            latencies,
            ..Sample::default()
        };
        for (share, milliseconds) in [(0.5, 100), (0.99, 198), (1.0, 200), (0.0, 1)] {
            assert_eq!(sample.quantile(share), Duration::from_millis(milliseconds));
        }
        assert_eq!(Sample::default().quantile(0.5), Duration::ZERO);
    }
}
