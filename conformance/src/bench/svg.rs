//! The results as a drawing: for each cell three groups of bars, one bar a registry. For `bench`.

use std::fmt::Write as _;

use super::result::{Figures, Results};
use super::table::number;

/// A colour for each registry, told apart in grey and by the colour-blind too.
const COLOURS: [&str; 6] = [
    "#9aa0a6", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9",
];

const BAR: usize = 13;
const GAP: usize = 30;
const MARGIN: usize = 20;
const TOP: usize = 86;
/// Three columns, and the longest bar in each; the rest is for its label.
const COLUMN: usize = 310;
const LONGEST: f64 = 190.0;

/// What a column shows.
struct Column {
    title: &'static str,
    figure: fn(&Figures) -> Option<f64>,
}

const COLUMNS: [Column; 3] = [
    Column {
        title: "operations a second (longer is better)",
        figure: |it| Some(it.rate),
    },
    Column {
        title: "p99 in ms (shorter is better)",
        figure: |it| Some(it.p99_ms),
    },
    Column {
        title: "server CPU seconds per 1,000 operations (shorter is better)",
        figure: |it| it.server_cpu_seconds_per_1000,
    },
];

/// The whole drawing. Bars are to scale within a cell and a column.
pub(crate) fn document(results: &Results) -> String {
    let peers = results.peers.len();
    let block = GAP + peers * BAR;
    let width = 2 * MARGIN + COLUMNS.len() * COLUMN;
    let height = TOP + results.cells.len() * block + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (place, peer) in results.peers.iter().enumerate() {
        let x = MARGIN + place * 160;
        let colour = COLOURS[place % COLOURS.len()];
        rectangle(&mut svg, x, 16, 11.0, colour);
        text(&mut svg, x + 16, 26, "", &peer.name);
    }
    let machine = format!(
        "{} CPUs shared by servers and generator, Linux {}; medians of {} rounds of {} s; × {}",
        results.machine.cpus,
        results.machine.kernel,
        results.rounds,
        results.seconds,
        results.peers.first().map_or("", |peer| peer.name.as_str()),
    );
    text(&mut svg, MARGIN, 46, " fill=\"#666\"", &machine);
    for (place, column) in COLUMNS.iter().enumerate() {
        text(
            &mut svg,
            MARGIN + place * COLUMN,
            70,
            " font-weight=\"bold\"",
            column.title,
        );
    }
    for (row, cell) in results.cells.iter().enumerate() {
        let y = TOP + row * block;
        let title = format!("{}, {} clients", cell.title, cell.clients);
        text(&mut svg, MARGIN, y + 18, "", &title);
        for (place, column) in COLUMNS.iter().enumerate() {
            let figures: Vec<Option<f64>> = cell
                .results
                .iter()
                .map(|outcome| outcome.figures().and_then(column.figure))
                .collect();
            bars(&mut svg, MARGIN + place * COLUMN, y + GAP - 6, &figures);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn bars(svg: &mut String, x: usize, y: usize, figures: &[Option<f64>]) {
    let most = figures.iter().flatten().copied().fold(0.0, f64::max);
    for (place, figure) in figures.iter().enumerate() {
        let y = y + place * BAR;
        let Some(figure) = figure else {
            text(svg, x, y + 10, " fill=\"#999\"", "–");
            continue;
        };
        let length = if most > 0.0 {
            figure / most * LONGEST
        } else {
            0.0
        };
        rectangle(svg, x, y, length.max(1.0), COLOURS[place % COLOURS.len()]);
        let label = match figures.first() {
            Some(Some(first)) if place > 0 && *first > 0.0 => {
                format!("{}  × {}", number(*figure), number(figure / first))
            }
            _ => number(*figure),
        };
        text(svg, x + length as usize + 5, y + 10, "", &label);
    }
}

fn rectangle(svg: &mut String, x: usize, y: usize, width: f64, colour: &str) {
    let height = BAR - 2;
    write(
        svg,
        format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>"
        ),
    );
}

fn text(svg: &mut String, x: usize, y: usize, attributes: &str, content: &str) {
    let content = content
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    write(
        svg,
        format_args!("<text x=\"{x}\" y=\"{y}\"{attributes}>{content}</text>"),
    );
}

fn write(svg: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(svg, "{what}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::result::tests::sample;

    #[test]
    fn every_figure_has_a_bar_and_text_is_escaped() {
        let svg = document(&sample());
        // Ground, legend, rates, p99s, and the one CPU time that is known.
        assert_eq!(svg.matches("<rect").count(), 1 + 2 + 3 + 3 + 1);
        assert!(svg.contains("2500  × 5.00"));
        assert!(svg.contains("&lt;push.blob.4k.c16&gt;"));
        assert!(svg.ends_with("</svg>\n"));
    }
}
