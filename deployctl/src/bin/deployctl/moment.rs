//! Times as people type them: a point in time, or so long ago. Used by `arguments`.

use std::str::FromStr;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// A point in time, or so long before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    Ago(SignedDuration),
}

impl Moment {
    /// Returns the point in time.
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(length) => now.checked_sub(length).unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        let length = text.parse::<Span>().ok();
        let days = SpanRelativeTo::days_are_24_hours();
        let length = length.and_then(|span| span.to_duration(days).ok());
        match length {
            Some(length) if !length.is_negative() => Ok(Self::Ago(length)),
            _ => {
                let text = text.escape_debug();
                Err(format!(
                    "`{text}` is no time\nhint: write it as 2026-01-02T03:04:05Z, or as a length of time before now, as 90m or 7d"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_lengths_of_time() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let rows = [
            ("24h", "2026-01-09T00:00:00Z"),
            ("7d", "2026-01-03T00:00:00Z"),
            ("1h30m", "2026-01-09T22:30:00Z"),
            ("0s", "2026-01-10T00:00:00Z"),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05+01:00", "2026-01-02T02:04:05Z"),
        ];
        for (text, expected) in rows {
            let moment: Moment = text.parse().unwrap();
            assert_eq!(moment.before(now).to_string(), expected, "{text}");
        }
        for text in ["", "yesterday", "-1h", "7", "2026-01-02"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
