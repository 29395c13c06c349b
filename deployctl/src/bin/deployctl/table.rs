//! Columns as Go's text/tabwriter makes them with a padding of three: what scripts written for
//! the original expect.

/// The spaces behind the longest cell of a column.
const PADDING: usize = 3;

/// Returns rows of cells as lines, each cell padded to its column's width, the last one too.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + PADDING
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}"));
        }
        text.push('\n');
    }
    text
}

/// Returns names with their values: the names padded, the values as they are.
pub(crate) fn properties(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + PADDING;
    pairs
        .iter()
        .map(|(name, value)| format!("{name:<width$}{value}\n"))
        .collect()
}

/// Returns a time as the original shows it: RFC 3339, UTC, whole seconds; `-` for none.
pub(crate) fn time(time: Option<jiff::Timestamp>) -> String {
    match time {
        Some(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_padded_to_its_column() {
        let rows = [
            vec!["code".to_owned(), "v1".to_owned()],
            vec!["configs".to_owned(), "v10".to_owned()],
        ];
        assert_eq!(columns(&rows), "code      v1    \nconfigs   v10   \n");
        assert_eq!(columns(&[]), "");
    }

    #[test]
    fn values_of_properties_are_not_padded() {
        let pairs = [("Name:", "x".to_owned()), ("Mtime:", "y".to_owned())];
        assert_eq!(properties(&pairs), "Name:    x\nMtime:   y\n");
    }

    #[test]
    fn times_have_whole_seconds() {
        let time_of = |text: &str| Some(text.parse().unwrap());
        assert_eq!(
            time(time_of("2017-03-01T12:28:18.9+01:00")),
            "2017-03-01T11:28:18Z"
        );
        assert_eq!(time(None), "-");
    }
}
