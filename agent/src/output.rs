//! What a process prints, as lines in the log, the last of them kept. Only `hooks` calls it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// A longer line is logged in pieces: a process decides how long its lines are, not how much
/// memory the agent has.
const LINE_MAX: usize = 8 << 10;

/// So many of the last lines are kept,
const LINES_KEPT: usize = 64;
/// and so many bytes of them.
const BYTES_KEPT: usize = 8 << 10;

/// The last lines that a process printed. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// Takes a line; the oldest ones go where there are too many.
    pub(crate) fn push(&self, line: &str) {
        let mut start = line.len().saturating_sub(BYTES_KEPT);
        while !line.is_char_boundary(start) {
            start += 1;
        }
        let mut lines = self.lines();
        lines.push_back(line[start..].to_owned());
        while lines.len() > LINES_KEPT || lines.iter().map(String::len).sum::<usize>() > BYTES_KEPT
        {
            lines.pop_front();
        }
    }

    /// Returns the lines, the last one last, and forgets them.
    pub(crate) fn take(&self) -> Vec<String> {
        self.lines().drain(..).collect()
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<String>> {
        // Whoever panicked left whole lines.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads to the end and hands every line, without its end, to `log`. Returns when everybody
/// who has the other end has closed it.
pub(crate) async fn log_lines(mut output: impl AsyncRead + Unpin, mut log: impl FnMut(&str)) {
    let mut line = Vec::new();
    let mut buffer = vec![0; LINE_MAX];
    loop {
        let count = match output.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        for piece in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if line.ends_with(b"\n") || line.len() >= LINE_MAX {
                flush(&mut line, &mut log);
            }
        }
    }
    if !line.is_empty() {
        flush(&mut line, &mut log);
    }
}

fn flush(line: &mut Vec<u8>, log: &mut impl FnMut(&str)) {
    let text = String::from_utf8_lossy(line);
    log(text.trim_end_matches(['\n', '\r']));
    line.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_not_too_many_bytes() {
        let tail = Tail::default();
        for number in 0..100 {
            tail.push(&number.to_string());
        }
        let lines = tail.take();
        assert_eq!(lines.len(), LINES_KEPT);
        assert_eq!(lines.last().map(String::as_str), Some("99"));
        assert!(tail.take().is_empty());
        let long = "ä".repeat(BYTES_KEPT * 2 / 3);
        for line in ["first", &long, "x"] {
            tail.push(line);
        }
        assert_eq!(tail.take(), ["x"]);
        tail.push("first");
        tail.push(&long);
        let lines = tail.take();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].len(), BYTES_KEPT);
    }

    #[tokio::test]
    async fn lines_come_whole_and_long_ones_in_pieces() {
        let long = "x".repeat(LINE_MAX + 10);
        let text = format!("one\r\n\ntwo \u{fffd}\n{long}\nlast");
        let mut lines = Vec::new();
        log_lines(text.as_bytes(), |line| lines.push(line.to_owned())).await;
        assert_eq!(lines[..3], ["one", "", "two \u{fffd}"]);
        assert_eq!(lines[3..lines.len() - 1].concat(), long);
        assert_eq!(lines.last().map(String::as_str), Some("last"));
    }
}
