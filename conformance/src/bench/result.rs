//! Medians of what was measured, and the JSON document. For `bench`, `table` and `svg`.

use serde::Serialize;

use super::measure::Sample;
use super::process;

/// With more than this share of one CPU used by others, figures are not worth quoting.
const DISTURBED: f64 = 0.1;

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) started: String,
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    /// The first is the one that others are compared with.
    pub(crate) peers: Vec<PeerName>,
    pub(crate) cells: Vec<Cell>,
}

/// Where it ran.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    /// Load of the minute before.
    pub(crate) load: Option<f64>,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
        Self {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            load: process::load(),
        }
    }
}

/// A registry of the run.
#[derive(Debug, Serialize)]
pub(crate) struct PeerName {
    pub(crate) name: String,
    pub(crate) url: String,
}

/// One scenario on all registries.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) clients: usize,
    /// In the order of the peers.
    pub(crate) results: Vec<Outcome>,
}

/// One scenario on one registry.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Measured(Figures),
    /// It could not be prepared, or nothing succeeded; with the first reason.
    Failed(String),
}

impl Outcome {
    /// The figures, where there are some.
    pub(crate) fn figures(&self) -> Option<&Figures> {
        match self {
            Self::Measured(figures) => Some(figures),
            Self::Failed(_) => None,
        }
    }

    /// The medians of these measurements.
    pub(crate) fn of(samples: &[Sample]) -> Self {
        let good: Vec<&Sample> = samples.iter().filter(|it| it.operations > 0).collect();
        if good.is_empty() {
            let reason = samples.iter().find_map(|it| it.first_error.clone());
            return Self::Failed(reason.unwrap_or_else(|| "not measured".into()));
        }
        Self::Measured(Figures::of(&good, samples))
    }
}

/// Medians over the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Operations a second. Pushing a blob or an image is one operation.
    pub(crate) rate: f64,
    pub(crate) rate_lowest: f64,
    pub(crate) rate_highest: f64,
    /// Content a second; bodies of answers where something is read.
    pub(crate) bytes_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) server_cpu_seconds_per_1000: Option<f64>,
    pub(crate) server_cpu_seconds_per_gib: Option<f64>,
    pub(crate) resident_before_bytes: Option<f64>,
    /// The highest of all rounds.
    pub(crate) resident_peak_bytes: Option<u64>,
    /// How much of one CPU the generator used.
    pub(crate) generator_cpu: f64,
    /// How much of one CPU was used by neither server nor generator.
    pub(crate) foreign_cpu: Option<f64>,
    pub(crate) operations: usize,
    pub(crate) errors: usize,
    pub(crate) first_error: Option<String>,
}

impl Figures {
    fn of(good: &[&Sample], all: &[Sample]) -> Self {
        const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
        let over = |figure: &dyn Fn(&Sample) -> f64| {
            median(good.iter().map(|sample| figure(sample)).collect())
        };
        let maybe = |figure: &dyn Fn(&Sample) -> Option<f64>| {
            let known: Vec<f64> = good.iter().filter_map(|it| figure(it)).collect();
            (!known.is_empty()).then(|| median(known))
        };
        let per_second = |sample: &Sample, what: f64| what / sample.elapsed.as_secs_f64().max(1e-9);
        let rates = || good.iter().map(|it| it.rate());
        Self {
            rate: over(&Sample::rate),
            rate_lowest: rates().fold(f64::INFINITY, f64::min),
            rate_highest: rates().fold(0.0, f64::max),
            bytes_per_second: over(&|it| per_second(it, it.bytes as f64)),
            p50_ms: over(&|it| it.quantile(0.5).as_secs_f64() * 1e3),
            p99_ms: over(&|it| it.quantile(0.99).as_secs_f64() * 1e3),
            server_cpu_seconds_per_1000: maybe(&|it| {
                Some(it.server_cpu?.as_secs_f64() * 1e3 / it.operations as f64)
            }),
            server_cpu_seconds_per_gib: maybe(&|it| {
                let gib = it.bytes as f64 / GIB;
                (gib > 0.0).then_some(it.server_cpu?.as_secs_f64() / gib)
            }),
            resident_before_bytes: maybe(&|it| it.resident.map(|bytes| bytes as f64)),
            resident_peak_bytes: good.iter().filter_map(|it| it.peak).max(),
            generator_cpu: over(&|it| per_second(it, it.own_cpu.as_secs_f64())),
            foreign_cpu: maybe(&|it| Some(per_second(it, it.foreign_cpu?.as_secs_f64()))),
            operations: good.iter().map(|it| it.operations).sum(),
            errors: all.iter().map(|it| it.errors).sum(),
            first_error: all.iter().find_map(|it| it.first_error.clone()),
        }
    }

    /// True where something else on the machine took so much that the figures say little.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.foreign_cpu.is_some_and(|share| share > DISTURBED)
    }
}

/// The middle one, or the mean of the two in the middle; 0 of nothing.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let half = figures.len() / 2;
    match figures.as_slice() {
        [] => 0.0,
        all if all.len() % 2 == 1 => all[half],
        all => (all[half - 1] + all[half]) / 2.0,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    /// A run of two registries, of which the second can do less.
    pub(crate) fn sample() -> Results {
        let measured = |operations, cpu| {
            let sample = Sample {
                operations,
                bytes: 4096 * operations as u64,
                elapsed: Duration::from_secs(2),
                latencies: vec![Duration::from_millis(3); operations],
                server_cpu: cpu,
                peak: Some(40 << 20),
                resident: Some(30 << 20),
                ..Sample::default()
            };
            Outcome::of(&[sample])
        };
        let peer = |name: &str| PeerName {
            name: name.into(),
            url: "http://127.0.0.1:1".into(),
        };
        let cell = |id: &str, results| Cell {
            id: id.into(),
            title: format!("a title of <{id}>"),
            clients: 16,
            results,
        };
        Results {
            started: "now".into(),
            machine: Machine::this(),
            rounds: 1,
            seconds: 2.0,
            peers: vec![peer("first"), peer("second")],
            cells: vec![
                cell(
                    "push.blob.4k.c16",
                    vec![
                        measured(1000, Some(Duration::from_secs(1))),
                        measured(5000, None),
                    ],
                ),
                cell(
                    "referrers.c4",
                    vec![measured(10, None), Outcome::Failed("answered 404".into())],
                ),
            ],
        }
    }

    #[test]
    fn figures_are_medians_of_rounds() {
        for (figures, wanted) in [
            (vec![], 0.0),
            (vec![3.0], 3.0),
            (vec![9.0, 1.0, 2.0], 2.0),
            (vec![1.0, 2.0, 4.0, 9.0], 3.0),
        ] {
            assert!((median(figures) - wanted).abs() < 1e-9);
        }
    }

    #[test]
    fn rates_and_costs_are_per_operation() {
        let results = sample();
        let figures = results.cells[0].results[0].figures().expect("figures");
        assert!((figures.rate - 500.0).abs() < 1e-6);
        assert!((figures.p50_ms - 3.0).abs() < 1e-6);
        let cost = figures.server_cpu_seconds_per_1000.expect("a cost");
        assert!((cost - 1.0).abs() < 1e-6);
        assert!(results.cells[1].results[1].figures().is_none());
    }
}
