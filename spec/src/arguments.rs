//! The original's spelling of flags: `-name x` beside `--name x`.
//! Every program passes its arguments through [`normalise`] before its parser sees them.

use std::ffi::OsString;

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
}
