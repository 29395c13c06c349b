//! What the process is and takes, under the names that Prometheus' own libraries use. Read when
//! asked for; where the system does not say, the family is left out.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use rustix::process::{Resource, getrlimit};

use super::collect::Family;

/// Which program this is.
#[derive(Debug)]
pub(super) struct Build;

impl Collector for Build {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        Family::new("build", "Which program this is").info(&mut encoder, labels)
    }
}

/// The process that runs it.
#[derive(Debug)]
pub(super) struct Process {
    started: f64,
}

impl Process {
    /// Returns the process, as started now.
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            started: now.unwrap_or_default().as_secs_f64(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let encoder = &mut encoder;
        let help = "When the process started, since 1970";
        Family::seconds("process_start_time", help).gauge(encoder, self.started)?;
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(taken) = Taken::parse(&stat) {
            let ticks = rustix::param::clock_ticks_per_second() as f64;
            Family::seconds("process_cpu", "Processor time taken")
                .fractions(encoder, taken.ticks as f64 / ticks)?;
            Family::new("process_threads", "Threads").gauge(encoder, taken.threads)?;
            Family::bytes("process_virtual_memory", "Address space")
                .gauge(encoder, taken.virtual_bytes)?;
            let page = rustix::param::page_size() as u64;
            Family::bytes("process_resident_memory", "Memory held")
                .gauge(encoder, taken.resident_pages * page)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            Family::new("process_open_fds", "File descriptors that are open")
                .gauge(encoder, open.count() as u64)?;
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            Family::new("process_max_fds", "File descriptors that may be open")
                .gauge(encoder, limit)?;
        }
        Ok(())
    }
}

/// What `/proc/self/stat` says (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    ticks: u64,
    threads: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Taken {
    fn parse(stat: &str) -> Option<Self> {
        // The name in parentheses may hold anything; what follows begins with field 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            ticks: field(14)? + field(15)?,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_program_is_called() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 3 0 0 0 250 50 0 0 20 0 9 0 100 4096 12 1 1";
        let expected = Taken {
            ticks: 300,
            threads: 9,
            virtual_bytes: 4096,
            resident_pages: 12,
        };
        assert_eq!(Taken::parse(stat), Some(expected));
        assert_eq!(Taken::parse(""), None);
        assert_eq!(Taken::parse("7 (a) S 1"), None);
    }
}
