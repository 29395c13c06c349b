//! The original's spelling of flags, `-name x` beside `--name x`: every program passes its
//! arguments through [`normalise`] before its parser sees them. And values that several of
//! them take.

use std::{ffi::OsString, str::FromStr};

/// Returns the arguments with every long flag written with one dash (`-name`, `-name=value`)
/// rewritten to two dashes.
///
/// A token is a long flag when it is one dash, a lower-case letter, then at least one more
/// of `a-z`, `0-9` and `-`, up to an optional `=`. Single letters (`-v`) stay short flags,
/// numbers (`-1`) stay values, and nothing is touched behind `--` or in the program's name.
/// Bundled short flags are therefore not understood, as in the original.
pub fn normalise(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut behind_separator = false;
    arguments
        .into_iter()
        .enumerate()
        .map(|(index, argument)| {
            behind_separator |= argument == "--";
            if index == 0 || behind_separator || !is_long_flag(argument.as_encoded_bytes()) {
                return argument;
            }
            let mut rewritten = OsString::from("-");
            rewritten.push(argument);
            rewritten
        })
        .collect()
}

fn is_long_flag(argument: &[u8]) -> bool {
    let Some(flag) = argument.strip_prefix(b"-") else {
        return false;
    };
    let name = flag.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.len() > 1
        && name[0].is_ascii_lowercase()
        && name
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

/// A flag whose empty value is none, as scripts pass variables that are not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<T>(pub Option<T>);

impl<T: FromStr> FromStr for Given<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        match text {
            "" => Ok(Self(None)),
            text => text.parse().map(|value| Self(Some(value))),
        }
    }
}

/// Returns the number of bytes that `20MiB` stands for: digits and one of B, KiB, MiB, GiB, TiB,
/// or digits alone.
///
/// # Errors
/// What to say of any other text.
pub fn bytes(text: &str) -> Result<u64, String> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        other => return Err(format!("`{other}` is none of B, KiB, MiB, GiB, TiB")),
    };
    let number: u64 = digits.parse().map_err(|_| "write it as `20MiB`")?;
    number
        .checked_mul(unit)
        .ok_or_else(|| "that is too much".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(arguments: &[&str]) -> Vec<String> {
        normalise(arguments.iter().map(OsString::from))
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect()
    }

    #[test]
    fn single_dash_long_flags_gain_a_dash_and_nothing_else_changes() {
        let table: [(&[&str], &[&str]); 6] = [
            (&["p", "-name", "x"], &["p", "--name", "x"]),
            (
                &["p", "-name=x", "--name=y"],
                &["p", "--name=x", "--name=y"],
            ),
            (&["p", "-v", "-h", "-"], &["p", "-v", "-h", "-"]),
            (&["p", "-1", "-1s", "-X-y"], &["p", "-1", "-1s", "-X-y"]),
            (&["p", "--", "-name"], &["p", "--", "-name"]),
            (
                &["-program", "-spec-version"],
                &["-program", "--spec-version"],
            ),
        ];
        for (given, expected) in table {
            assert_eq!(normalised(given), expected);
        }
    }

    #[test]
    fn normalising_twice_is_normalising_once() {
        let once = normalised(&["p", "-name=x", "-v", "--", "-name"]);
        let again: Vec<&str> = once.iter().map(String::as_str).collect();
        assert_eq!(normalised(&again), once);
    }

    #[test]
    fn flags_may_be_given_and_empty() {
        assert_eq!("".parse(), Ok(Given::<u8>(None)));
        assert_eq!("7".parse(), Ok(Given(Some(7_u8))));
        assert!("x".parse::<Given<u8>>().is_err());
    }

    #[test]
    fn numbers_of_bytes_have_units_or_none() {
        for (text, expected) in [
            ("0", 0),
            ("17", 17),
            ("3B", 3),
            ("2KiB", 2048),
            ("1GiB", 1 << 30),
            ("3TiB", 3 << 40),
        ] {
            assert_eq!(bytes(text), Ok(expected));
        }
        for text in ["", "MiB", "-1", "1MB", "1 KiB", "99999999999GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
