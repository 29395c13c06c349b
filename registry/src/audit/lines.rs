//! Lines as they are stored: one JSON object each, with a newline behind it. Pure.

use deploy_spec::audit::{Entry, Position};
use serde::Deserialize;

/// Adds a line.
pub(super) fn write(entry: &Entry, lines: &mut Vec<u8>) {
    serde_json::to_writer(&mut *lines, entry).expect("entries are plain structures");
    lines.push(b'\n');
}

/// Returns the lines of an object, as far as they can be understood, and whether all of them can.
pub(super) fn parse(bytes: &[u8]) -> (Vec<Entry>, bool) {
    let mut sound = true;
    let entries = split(bytes).filter_map(|line| {
        let entry = serde_json::from_slice(line);
        sound &= entry.is_ok();
        entry.ok()
    });
    (entries.collect(), sound)
}

/// Returns the lines of an object as they are, each with its place among others.
///
/// # Errors
/// Where one cannot be understood.
pub(super) fn places(bytes: &[u8]) -> Result<Vec<(Position, &[u8])>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Place {
        time: jiff::Timestamp,
        id: String,
    }
    let place = |line| {
        let Place { time, id } = serde_json::from_slice(line)?;
        Ok((Position { time, id }, line))
    };
    split(bytes).map(place).collect()
}

fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty())
}
