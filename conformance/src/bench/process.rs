//! What processes use, read from `/proc`. For `measure`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A server on this machine with the processes it started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    id: u32,
}

impl Process {
    /// The process of this id, if there is one that can be looked at.
    pub(crate) fn open(id: u32) -> Option<Self> {
        let process = Self { id };
        process.cpu().map(|_| process)
    }

    /// This program.
    pub(crate) fn own() -> Self {
        Self {
            id: std::process::id(),
        }
    }

    /// CPU time used so far, by it and by its children, those that ended included.
    pub(crate) fn cpu(self) -> Option<Duration> {
        let stat = fs::read_to_string(self.file("stat")).ok()?;
        let own = ticks(parse_stat(&stat)?);
        let children = self.children().into_iter().filter_map(Self::cpu).sum();
        Some(own.saturating_add(children))
    }

    /// Resident memory in bytes, of it and of its children.
    pub(crate) fn resident(self) -> Option<u64> {
        self.memory("VmRSS:")
    }

    /// The most resident memory since the last reset, or since it was started.
    pub(crate) fn peak(self) -> Option<u64> {
        self.memory("VmHWM:")
    }

    /// Begins a new peak; true where the kernel let us.
    pub(crate) fn reset_peak(self) -> bool {
        let children = self.children().into_iter().all(Self::reset_peak);
        fs::write(self.file("clear_refs"), "5").is_ok() && children
    }

    fn memory(self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(self.file("status")).ok()?;
        let own = parse_memory(&status, name)?;
        let children = self.children().into_iter();
        Some(own + children.filter_map(|it| it.memory(name)).sum::<u64>())
    }

    /// Processes that its main thread started and that run; enough for servers with a wrapper.
    fn children(self) -> Vec<Self> {
        let file = self.file(&format!("task/{}/children", self.id));
        let text = fs::read_to_string(file).unwrap_or_default();
        text.split_whitespace()
            .filter_map(|id| id.parse().ok())
            .map(|id| Self { id })
            .collect()
    }

    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.id))
    }
}

/// CPU time used by everything on this machine.
pub(crate) fn machine_cpu() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system; idle and iowait left out; interrupts are the network's share.
    let busy = fields.iter().take(3).sum::<u64>() + fields.iter().skip(5).take(2).sum::<u64>();
    Some(ticks(busy))
}

/// The load of the last minute.
pub(crate) fn load() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs_f64(count as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// User and system time with that of ended children, in ticks. The name in the second field may
/// hold anything, so fields count from its last bracket.
fn parse_stat(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields
        .get(11..15)?
        .iter()
        .map(|it| it.parse::<u64>())
        .sum::<Result<_, _>>()
        .ok()
}

fn parse_memory(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tables_are_read() {
        let stat = "17 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0 1";
        assert_eq!(parse_stat(stat), Some(127));
        assert_eq!(parse_stat("17 (a) S 1"), None);
        let status = "Name:\tx\nVmHWM:\t    12 kB\nVmRSS:\t     7 kB\n";
        assert_eq!(parse_memory(status, "VmHWM:"), Some(12 * 1024));
        assert_eq!(parse_memory(status, "VmSwap:"), None);
    }

    #[test]
    fn this_program_is_found() {
        // Only what one reading says by itself: other tests run between two of them, and the kernel
        // rounds every counter in its own way.
        let own = Process::own();
        assert!(own.resident().is_some_and(|bytes| bytes > 0));
        assert!(own.peak().is_some_and(|bytes| bytes > 0));
        assert!(own.cpu().is_some());
        assert!(machine_cpu().is_some_and(|time| time > Duration::ZERO));
        assert!(Process::open(u32::MAX).is_none());
    }
}
