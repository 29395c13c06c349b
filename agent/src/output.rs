//! What a process prints, as lines in the log. Only `hooks` calls it.

use tokio::io::{AsyncRead, AsyncReadExt};

/// A longer line is logged in pieces: a process decides how long its lines are, not how much
/// memory the agent has.
const LINE_MAX: usize = 8 << 10;

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
