//! The results as a table to read. For `bench`.

use super::result::{Figures, Outcome, Results};

/// Headings; all but the first two columns are numbers.
const HEAD: [&str; 13] = [
    "cell",
    "registry",
    "per s",
    "×",
    "MB/s",
    "p50 ms",
    "p99 ms",
    "×",
    "CPU s/1000",
    "×",
    "CPU s/GiB",
    "RSS MiB",
    "errors",
];

/// Rows of cells of even width, a heading first. `×` is the figure to its left as a multiple of
/// the first registry's.
pub(crate) fn rows(results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    for cell in &results.cells {
        let first = cell.results.first().and_then(Outcome::figures);
        for (place, (peer, outcome)) in results.peers.iter().zip(&cell.results).enumerate() {
            let id = if place == 0 {
                cell.id.clone()
            } else {
                String::new()
            };
            let mut row = vec![id, peer.name.clone()];
            match outcome {
                Outcome::Measured(figures) => row.extend(columns(figures, first)),
                Outcome::Failed(_) => row.push("-".into()),
            }
            rows.push(row);
        }
    }
    align(&mut rows);
    rows
}

/// What a reader has to know about the figures.
pub(crate) fn remarks(results: &Results) -> Vec<String> {
    let machine = &results.machine;
    let load = machine
        .load
        .map_or_else(|| "unknown".into(), |load| format!("{load:.2}"));
    let mut remarks = vec![format!(
        "{} CPUs shared by servers and generator, Linux {}, load before {load}; medians of {} \
         rounds of {} s",
        machine.cpus, machine.kernel, results.rounds, results.seconds
    )];
    let disturbed = results
        .cells
        .iter()
        .flat_map(|cell| &cell.results)
        .any(|it| it.figures().is_some_and(Figures::is_disturbed));
    if disturbed {
        remarks.push("* something else used the CPUs meanwhile: not to be quoted".into());
    }
    for cell in &results.cells {
        for (peer, outcome) in results.peers.iter().zip(&cell.results) {
            let reason = match outcome {
                Outcome::Measured(figures) => figures.first_error.as_ref(),
                Outcome::Failed(reason) => Some(reason),
            };
            if let Some(reason) = reason {
                remarks.push(format!("{} on {}: {reason}", cell.id, peer.name));
            }
        }
    }
    remarks
}

fn columns(figures: &Figures, first: Option<&Figures>) -> Vec<String> {
    let times = |figure: &dyn Fn(&Figures) -> Option<f64>| {
        let (own, first) = (figure(figures)?, first.and_then(figure)?);
        (first > 0.0).then(|| number(own / first))
    };
    let mib = |bytes: f64| bytes / (1024.0 * 1024.0);
    let mark = if figures.is_disturbed() { "*" } else { "" };
    let resident = match (figures.resident_before_bytes, figures.resident_peak_bytes) {
        (Some(before), Some(peak)) => format!("{:.0} → {:.0}", mib(before), mib(peak as f64)),
        (Some(before), None) => format!("{:.0}", mib(before)),
        _ => "-".into(),
    };
    vec![
        format!("{}{mark}", number(figures.rate)),
        or_dash(times(&|it| Some(it.rate))),
        number(figures.bytes_per_second / 1e6),
        number(figures.p50_ms),
        number(figures.p99_ms),
        or_dash(times(&|it| Some(it.p99_ms))),
        or_dash(figures.server_cpu_seconds_per_1000.map(number)),
        or_dash(times(&|it| it.server_cpu_seconds_per_1000)),
        or_dash(figures.server_cpu_seconds_per_gib.map(number)),
        resident,
        figures.errors.to_string(),
    ]
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

/// Three digits that matter.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.0995 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Moves numbers to the right of their columns; what stands alone on its row stays.
fn align(rows: &mut [Vec<String>]) {
    for column in 2..HEAD.len() {
        let width = rows
            .iter()
            .filter(|row| row.len() == HEAD.len())
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0);
        for row in rows.iter_mut().filter(|row| row.len() == HEAD.len()) {
            row[column] = format!("{:>width$}", row[column]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::result::tests::sample;

    #[test]
    fn every_registry_has_a_row_and_its_ratio() {
        let rows = rows(&sample());
        assert_eq!(rows.len(), 5);
        assert!(rows.iter().take(4).all(|row| row.len() == HEAD.len()));
        assert_eq!(rows[2][2].trim(), "2500");
        assert_eq!(rows[2][3].trim(), "5.00");
        assert_eq!(rows[4][2], "-");
        assert!(remarks(&sample()).contains(&"referrers.c4 on second: answered 404".into()));
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (12_345.6, "12346"),
            (99.96, "100"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.012_34, "0.012"),
            (0.0, "0.00"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
