//! How values of flags are read. Pure.

use std::time::Duration;

/// A length of time as `1m30s`, or 0.
pub(super) fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => humantime::parse_duration(text),
    }
}

/// A length of time that is not 0.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(Duration::ZERO) => Err("it must not be 0".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

/// A number of bytes as `20MiB`, or as it is.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("`{other}` is none of B, KiB, MiB, GiB")),
    };
    let number: u64 = digits.parse().map_err(|_| "write it as `20MiB`")?;
    number
        .checked_mul(unit)
        .ok_or_else(|| "that is too much".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_bytes_have_units_or_none() {
        for (text, expected) in [
            ("0", 0),
            ("17", 17),
            ("3B", 3),
            ("2KiB", 2048),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(bytes(text), Ok(expected));
        }
        for text in ["", "MiB", "-1", "1MB", "1 KiB", "99999999999GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
