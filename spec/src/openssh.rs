//! What OpenSSH's files of public keys have in common, `authorized_keys` (sshd(8)) and allowed
//! signers (ssh-keygen(1)): options before a key, times, and lists of patterns (ssh_config(5)).

use jiff::{Timestamp, civil, tz::TimeZone};

/// A quotation mark is missing, or something stands behind one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the options have no end, or a quotation mark in the wrong place")]
pub struct QuotesError;

/// Splits a line at the first white space that no quotation marks surround; nothing where there is
/// none.
///
/// # Errors
/// [`QuotesError`].
pub fn split_options(line: &str) -> Result<Option<(&str, &str)>, QuotesError> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, character) in line.char_indices() {
        match character {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => return Ok(Some((&line[..at], line[at..].trim_start()))),
            _ => {}
        }
        escaped = quoted && character == '\\' && !escaped;
    }
    match quoted {
        true => Err(QuotesError),
        false => Ok(None),
    }
}

/// Returns the options of a line, each with its value, which still has its quotation marks and
/// backslashes.
pub fn options(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    Options(text)
}

struct Options<'a>(&'a str);

impl<'a> Iterator for Options<'a> {
    type Item = (&'a str, Option<&'a str>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut quoted = false;
        let mut escaped = false;
        let end = self.0.find(|character| {
            let ends = character == ',' && !quoted;
            if character == '"' && !escaped {
                quoted = !quoted;
            }
            escaped = quoted && character == '\\' && !escaped;
            ends
        });
        let (option, rest) = match end {
            Some(end) => (&self.0[..end], &self.0[end + 1..]),
            None => (self.0, ""),
        };
        self.0 = rest;
        Some(match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        })
    }
}

/// Takes the quotation marks off; a backslash before one makes it a character of the value.
///
/// # Errors
/// [`QuotesError`].
pub fn unquote(value: &str) -> Result<String, QuotesError> {
    let inner = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    Ok(inner.ok_or(QuotesError)?.replace("\\\"", "\""))
}

/// Returns a time as sshd(8) has it, `YYYYMMDD[HHMM[SS]]`: one of this zone, or in UTC where a `Z`
/// stands behind it.
pub fn parse_time(text: &str, local: TimeZone) -> Option<Timestamp> {
    let (digits, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, local),
    };
    let is_time = [8, 12, 14].contains(&digits.len());
    if !is_time || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{digits:0<14}");
    let time = civil::DateTime::strptime("%Y%m%d%H%M%S", digits).ok()?;
    Some(time.to_zoned(zone).ok()?.timestamp())
}

/// Whether a list of patterns with commas between them stands for this text: one of them does, and
/// none of those with a `!` before them.
pub fn list_matches(list: &str, text: &str) -> bool {
    let mut found = false;
    for pattern in list.split(',').map(str::trim) {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern.as_bytes(), text.as_bytes()) => return false,
            Some(_) => {}
            None => found |= matches(pattern.as_bytes(), text.as_bytes()),
        }
    }
    found
}

/// Whether a pattern stands for this text: `*` stands for any characters, and `?` for any one.
///
/// Takes as many steps as the product of both lengths at the most: whatever stood behind the last
/// star is all that is ever tried again.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, read));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[read] => (at, read) = (at + 1, read + 1),
            _ => match star {
                None => return false,
                Some((behind, from)) => {
                    star = Some((behind, from + 1));
                    (at, read) = (behind, from + 1);
                }
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_where_no_quotes_are() {
        let line = r#"a,b="c, \" d",e  rest of it"#;
        let (text, rest) = split_options(line).unwrap().unwrap();
        assert_eq!(rest, "rest of it");
        let found: Vec<_> = options(text).collect();
        let value = r#""c, \" d""#;
        assert_eq!(found, [("a", None), ("b", Some(value)), ("e", None)]);
        assert_eq!(unquote(value).unwrap(), r#"c, " d"#);
        assert_eq!(split_options("a=\"b c"), Err(QuotesError));
        assert_eq!(split_options("abc"), Ok(None));
        assert_eq!(unquote("abc"), Err(QuotesError));
    }

    #[test]
    fn lists_match_as_ssh_config_has_it() {
        for (list, text, expected) in [
            ("file", "file", true),
            ("file,git", "git", true),
            ("fi*,!file", "file", false),
            ("!file", "git", false),
            ("*@deploy-tools", "release@deploy-tools", true),
            ("?elease@*", "release@deploy-tools", true),
            ("", "x", false),
            ("", "", true),
            ("a*b*c", "aXXbYYbc", true),
            ("a*b*c", "aXXbYYb", false),
        ] {
            assert_eq!(list_matches(list, text), expected, "{list} {text}");
        }
    }

    #[test]
    fn times_are_local_unless_they_say_otherwise() {
        let east = TimeZone::fixed(jiff::tz::offset(2));
        let time = |text: &str| parse_time(text, east.clone()).map(|time| time.to_string());
        for (text, expected) in [
            ("20300102", "2030-01-01T22:00:00Z"),
            ("20300102Z", "2030-01-02T00:00:00Z"),
            ("203001020304", "2030-01-02T01:04:00Z"),
            ("20300102030405z", "2030-01-02T03:04:05Z"),
        ] {
            assert_eq!(time(text).as_deref(), Some(expected), "{text}");
        }
        for wrong in ["2030", "20301301Z", "2030010Z", "tomorrow", "", "Z"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}
