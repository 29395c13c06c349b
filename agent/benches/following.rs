//! How long it takes from the moment at which a channel is told to move until the script of an
//! agent that follows it has been started, and what following costs while nothing moves.
//!
//! `cargo build --release --workspace --bins && cargo bench -p deploy-agent --bench following`
//! runs a registry and an agent on loopback, for about seven minutes.

#[path = "support/programs.rs"]
mod programs;
mod support;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use deployctl::client::{Condition, Options, Registry as Remote};
use programs::{Registry, program, start};
use support::{median, pack, run, trees};

/// What the small layer that changes comes with, and how many releases of that come.
const CASES: [Case; 3] = [
    Case {
        configuration: "alone",
        base: false,
        link: false,
        changes: 200,
    },
    Case {
        configuration: "beside",
        base: true,
        link: false,
        changes: 50,
    },
    Case {
        configuration: "linked",
        base: true,
        link: true,
        changes: 50,
    },
];
/// How long nothing comes.
const IDLE: Duration = Duration::from_secs(60);
/// How long a release may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Writes down when it was started, to the microsecond.
const SCRIPT: &str = "#!/bin/bash\necho $EPOCHREALTIME >>$HOME/started\n";

/// A configuration that changes.
struct Case {
    configuration: &'static str,
    /// Whether thousands of files that stay the same are in another layer of it.
    base: bool,
    /// Whether those are taken over as further names.
    link: bool,
    changes: usize,
}

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    let place = place.path();
    let registry = Registry::start(place)?;
    let trees = trees()?;
    let base = pack(trees.first().context("a tree")?, "zstd", place)?;
    registry.deployctl(&["push", "base:v1", &base.display().to_string()])?;
    for case in &CASES {
        measure(&place.join(case.configuration), &registry, case)?;
    }
    Ok(())
}

/// Follows one configuration in a directory of its own, and says what that took.
fn measure(place: &Path, registry: &Registry, case: &Case) -> Result<()> {
    fs::create_dir(place)?;
    prepare(place, registry, case)?;
    let script = place.join("script");
    fs::write(&script, SCRIPT)?;
    run(Command::new("chmod").arg("755").arg(&script))?;
    let mut agent = Command::new(program("deploy-agent")?);
    agent.args(["-addr", &registry.address, "-name", case.configuration]);
    agent.args(["-channel", "moving", "-keep", "2", "-dir"]);
    agent.arg(place.join("host"));
    agent.arg("-script").arg(&script).env("HOME", place);
    if case.link {
        agent.arg("-link");
    }
    // As the unit has it.
    agent.env("MALLOC_MMAP_THRESHOLD_", "131072");
    let agent = start(&mut agent, &place.join("agent.log"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut times = runtime.block_on(change(place, registry, case))?;
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64();
    let mut output = std::io::stdout().lock();
    writeln!(
        output,
        "a small layer {}: channel moved → script started, {} changes: p50 {:.0} ms, p90 {:.0} ms, p99 {:.0} ms, \
         longest {:.0} ms",
        case.configuration,
        times.len(),
        median(times.clone()).as_secs_f64() * 1e3,
        at(0.9) * 1e3,
        at(0.99) * 1e3,
        at(1.0) * 1e3
    )?;
    let pid = agent.0.id();
    // What the last deployment left to do is over.
    sleep(Duration::from_secs(2));
    let (before, begun) = (processor_time(pid)?, Instant::now());
    sleep(IDLE);
    let used = processor_time(pid)? - before;
    let share = used.as_secs_f64() / begun.elapsed().as_secs_f64();
    let (resident, peak) = (memory(pid, "VmRSS:")?, memory(pid, "VmHWM:")?);
    writeln!(
        output,
        "following, nothing moves for {} s: {:.3} % of a core, {resident:.1} MiB resident, {peak:.1} MiB at the most before",
        IDLE.as_secs(),
        share * 100.0
    )?;
    Ok(())
}

/// Pushes a small layer for each release of the case, beside what stays.
fn prepare(place: &Path, registry: &Registry, case: &Case) -> Result<()> {
    let name = case.configuration;
    let small = place.join("small");
    for change in 0..=case.changes {
        fs::create_dir_all(&small)?;
        fs::write(
            small.join("configuration"),
            format!("{name} {change}\n").repeat(100),
        )?;
        let version = format!("{name}:v{change}");
        registry.deployctl(&["push", &version, &small.display().to_string()])?;
        if change == 0 {
            let base: &[&str] = if case.base {
                &["-layer", "base:v1"]
            } else {
                &[]
            };
            let rest = ["-layer", &version];
            registry.deployctl(&[&["addconf", "-name", name], base, &rest].concat())?;
        } else {
            let version = format!("v{change}");
            let change = ["-component", name, "-version", &version];
            registry.deployctl(&[&["changeconf", "-name", name], &change[..]].concat())?;
        }
    }
    Ok(())
}

/// Moves the channel through all releases; returns how long each took to start its script.
async fn change(place: &Path, registry: &Registry, case: &Case) -> Result<Vec<Duration>> {
    let remote = Remote::new(registry.address.parse()?, Options::default())?;
    let repository = remote.repository(format!("configs/{}", case.configuration).parse()?);
    let channel = "moving".parse()?;
    let mut times = Vec::new();
    for number in 1..=case.changes + 1 {
        let release = format!("v{number}").parse()?;
        let manifest = repository.manifest(&release).await?;
        let manifest = manifest.context("the release is there")?;
        let moved = SystemTime::UNIX_EPOCH.elapsed()?;
        repository
            .put_manifest(
                &channel,
                &manifest.media_type,
                manifest.bytes,
                &Condition::Always,
            )
            .await?;
        let started = started(&place.join("started"), number)?;
        // The first one brings the large layer, and the agent was not there yet.
        if number > 1 {
            times.push(started.checked_sub(moved).context("clocks agree")?);
        }
        deployed(place, &manifest.digest.to_string())?;
    }
    Ok(times)
}

/// Waits until the script was started so many times; returns when that was.
fn started(file: &PathBuf, count: usize) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if let Some(line) = text.lines().nth(count - 1).filter(|_| text.ends_with('\n')) {
            return Ok(Duration::from_secs_f64(line.parse()?));
        }
        ensure!(begun.elapsed() < PATIENCE, "release {count} did not come");
        sleep(Duration::from_millis(1));
    }
}

/// Waits until the agent has nothing to do any more, and looks at the channel again.
fn deployed(place: &Path, id: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let journal = fs::read(place.join("host/journal.json")).unwrap_or_default();
        let journal: serde_json::Value = serde_json::from_slice(&journal).unwrap_or_default();
        if journal["step"] == "idle" && journal["deployed"]["Id"] == *id {
            break;
        }
        ensure!(begun.elapsed() < PATIENCE, "`{id}` was not deployed");
        sleep(Duration::from_millis(1));
    }
    sleep(Duration::from_millis(20));
    Ok(())
}

/// Returns the time for which a process has had a processor.
fn processor_time(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').context("a stat line")?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    // What every Linux counts in (USER_HZ).
    Ok(Duration::from_millis(ticks * 10))
}

/// Returns a line of the process's status, in MiB.
fn memory(pid: u32, key: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kibibytes = line.context("a line")?.trim().trim_end_matches(" kB");
    Ok(kibibytes.parse::<f64>()? / 1024.0)
}
