//! The load test: measures any registries side by side. For `main`.
//!
//! ## Map
//! - `arguments` → peers (`peer`; `distribution` is started) and cells (`scenario`).
//! - A cell on a peer: `prepare` pushes what is read, `payload` makes what is pushed, `work` is
//!   what one client does with them over its `connection`, `measure` lets all clients go and
//!   watches the server by `process`; `during` runs a command beside it.
//! - `result` takes medians; `table` and `svg` show them.

mod arguments;
mod connection;
mod distribution;
mod during;
mod measure;
mod payload;
mod peer;
mod prepare;
mod process;
mod result;
mod scenario;
mod svg;
mod table;
mod work;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) use arguments::Bench;

use self::distribution::Distribution;
use self::measure::{Sample, Stop};
use self::payload::Source;
use self::peer::Peer;
use self::result::{Cell, Machine, Outcome, PeerName, Results};
use self::scenario::{Beside, Extent, Scenario};
use crate::program;
use crate::report::print;

/// Before a peer is measured again, what the last one left is over: no faster than this.
const SETTLE: Duration = Duration::from_millis(50);

/// `conformance bench`. SIGINT and SIGTERM end it after what is being measured, so that what it
/// started ends too.
pub(crate) async fn run(arguments: Bench) -> anyhow::Result<ExitCode> {
    let scenarios = scenario::all(&arguments);
    if scenarios.is_empty() {
        print::error("`--only` fits no cell; hint: `conformance bench --list` shows them");
        return Ok(ExitCode::from(crate::USAGE));
    }
    if arguments.list {
        let row = |cell: Scenario| vec![cell.id, cell.title];
        print::table(&scenarios.into_iter().map(row).collect::<Vec<_>>());
        return Ok(ExitCode::SUCCESS);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    // Blocking clients need threads, and no runtime beside them.
    let work = tokio::task::spawn_blocking(move || carry_out(&arguments, &scenarios, &stopped));
    tokio::pin!(work);
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = until_told(&mut terminate) => {
            stop.store(true, Ordering::Relaxed);
            work.await
        }
    };
    outcome.context("run the load test")??;
    Ok(ExitCode::SUCCESS)
}

async fn until_told(terminate: &mut Signal) {
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

fn carry_out(arguments: &Bench, scenarios: &[Scenario], stop: &AtomicBool) -> anyhow::Result<()> {
    let distribution = match program::find("registry") {
        Some(binary) if !arguments.without_distribution => Some(Distribution::start(&binary)?),
        _ => None,
    };
    let mut peers = peers(arguments, distribution.as_ref())?;
    let longest = scenarios.iter().map(Scenario::longest).max().unwrap_or(0);
    let source = Source::new(longest);
    let mut results = Results {
        started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        machine: Machine::this(),
        rounds: arguments.rounds(),
        seconds: arguments.limit().as_secs_f64(),
        peers: peers
            .iter()
            .map(|peer| PeerName {
                name: peer.name.clone(),
                url: format!("http://{}/", peer.authority),
            })
            .collect(),
        cells: Vec::new(),
    };
    for scenario in scenarios {
        let cell = measure_cell(arguments, scenario, &mut peers, &source, stop);
        if stop.load(Ordering::Relaxed) {
            print::progress("interrupted: what was measured until now follows");
            break;
        }
        print::progress(&summary(&cell, &results.peers));
        results.cells.push(cell);
    }
    show(arguments, &results)
}

fn peers(arguments: &Bench, distribution: Option<&Distribution>) -> anyhow::Result<Vec<Peer>> {
    let run = rand::random::<u32>();
    let repository = format!("{}/{run:08x}", arguments.repository);
    let peers: Vec<Peer> = distribution
        .map(Distribution::address)
        .iter()
        .chain(&arguments.peers)
        .map(|address| Peer::new(address, arguments.remote, repository.clone()))
        .collect::<Result<_, _>>()?;
    if peers.is_empty() {
        bail!("no registry to measure; hint: name one, or put distribution's `registry` on PATH");
    }
    for peer in &peers {
        let mut connection = peer.connection();
        let ping = connection.head("GET", "/v2/", "");
        let answer = connection
            .exchange(&[ping.as_bytes()])
            .with_context(|| format!("reach `{}`", peer.authority))?;
        ensure!(
            answer.status == 200,
            "`{}` does not let us in: GET /v2/ answered {}",
            peer.authority,
            answer.status
        );
    }
    Ok(peers)
}

/// All rounds of one cell on all peers in turn; each round another one is the first.
fn measure_cell(
    arguments: &Bench,
    scenario: &Scenario,
    peers: &mut [Peer],
    source: &Source,
    stop: &AtomicBool,
) -> Cell {
    let mut samples: Vec<Vec<Sample>> = peers.iter().map(|_| Vec::new()).collect();
    let rounds = match scenario.extent {
        Extent::Time => arguments.rounds(),
        Extent::Once => 1,
    };
    for round in 0..rounds {
        for turn in 0..peers.len() {
            let place = (round + turn) % peers.len();
            if !stop.load(Ordering::Relaxed) {
                let sample = measure(arguments, scenario, &mut peers[place], source)
                    .unwrap_or_else(|error| Sample {
                        first_error: Some(format!("{error:#}")),
                        ..Sample::default()
                    });
                samples[place].push(sample);
            }
        }
    }
    Cell {
        id: scenario.id.clone(),
        title: scenario.title.clone(),
        clients: scenario.clients,
        results: samples.iter().map(|it| Outcome::of(it)).collect(),
    }
}

fn measure(
    arguments: &Bench,
    scenario: &Scenario,
    peer: &mut Peer,
    source: &Source,
) -> anyhow::Result<Sample> {
    let limit = arguments.limit();
    let workers = scenario.workers(peer, source, limit)?;
    // What others wrote must not be written while this one is measured.
    rustix::fs::sync();
    std::thread::sleep(SETTLE);
    let stop = match scenario.extent {
        Extent::Time => Stop::After(limit),
        Extent::Once => Stop::AfterOne,
    };
    let run = || measure::run(peer, workers, stop, scenario.warms_up());
    match (&arguments.during, scenario.beside) {
        (Some(command), Beside::Command) => during::beside(command, peer, run),
        _ => Ok(run()),
    }
}

/// One line about a cell, while the run goes on.
fn summary(cell: &Cell, peers: &[PeerName]) -> String {
    let rates: Vec<String> = peers
        .iter()
        .zip(&cell.results)
        .map(|(peer, outcome)| match outcome.figures() {
            Some(figures) => format!("{} {}/s", peer.name, table::number(figures.rate)),
            None => format!("{} -", peer.name),
        })
        .collect();
    format!("{}: {}", cell.id, rates.join(", "))
}

fn show(arguments: &Bench, results: &Results) -> anyhow::Result<()> {
    print::table(&table::rows(results));
    for remark in table::remarks(results) {
        print::table(&[vec![remark]]);
    }
    if let Some(path) = &arguments.json {
        let document = serde_json::to_string_pretty(results).context("write the results")?;
        std::fs::write(path, document + "\n")
            .with_context(|| format!("write `{}`", path.display()))?;
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, svg::document(results))
            .with_context(|| format!("write `{}`", path.display()))?;
    }
    Ok(())
}
