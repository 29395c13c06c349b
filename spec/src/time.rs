//! Points in time, as documents keep them. Used by `audit` and `signature`, and by whoever makes
//! such documents.

use jiff::Timestamp;

/// Returns the time without what is below a microsecond.
pub fn whole_microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).expect("the microsecond of a time is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_microsecond_goes() {
        for (text, expected) in [
            (
                "2026-01-02T03:04:05.678901234Z",
                "2026-01-02T03:04:05.678901Z",
            ),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ] {
            let time = whole_microseconds(text.parse().unwrap());
            assert_eq!(time.to_string(), expected);
        }
    }
}
