//! What is signed: which release of which configuration may be deployed, and on what occasion.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::STATEMENT_MAX;
use crate::{Digest, ReleaseNumber, RepositoryName, json, time::whole_microseconds};

/// The version of the document that is written, and the only one that is read.
const VERSION: u64 = 1;

/// What a release is signed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To be deployed where releases with lower numbers were.
    Release,
    /// To be deployed also where a release with a higher number was.
    Rollback,
}

/// That a release may be deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The configuration, by the whole name of its repository: what is signed for one prefix says
    /// nothing of another.
    pub repository: RepositoryName,
    /// The digest of the release's manifest.
    pub release: Digest,
    /// The release's number, where it has one; what is signed as [`Purpose::Release`] always has.
    pub number: Option<ReleaseNumber>,
    /// What for.
    pub purpose: Purpose,
    /// When, to the microsecond, by the clock of whoever signed: a script may go back within the
    /// second in which it went forward.
    pub time: Timestamp,
}

/// Why bytes are no statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Longer than any statement.
    #[error("the statement has {0} bytes, and at most {STATEMENT_MAX} are read")]
    TooLarge(usize),
    /// Not JSON, or a property that is missing, unknown, or of the wrong type.
    #[error("the statement is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// One of a later version.
    #[error("the statement has version {0}, and only {VERSION} is known")]
    Version(u64),
    /// It is to be deployed after lower numbers, and has none.
    #[error("the statement is for a release without a number")]
    NoNumber,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    repository: RepositoryName,
    release: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<ReleaseNumber>,
    purpose: Purpose,
    time: Timestamp,
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

impl Statement {
    /// Returns the very bytes that are signed. Equal statements give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::canonical(&Document {
            version: VERSION,
            repository: self.repository.clone(),
            release: self.release.clone(),
            number: self.number,
            purpose: self.purpose,
            time: whole_microseconds(self.time),
        })
    }

    /// Returns the statement that bytes are. Whatever is not understood to the letter is refused:
    /// whoever signed it may have meant to say less.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        if bytes.len() as u64 > STATEMENT_MAX {
            return Err(StatementError::TooLarge(bytes.len()));
        }
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(StatementError::Version(version));
        }
        let document: Document = serde_json::from_slice(bytes)?;
        if document.purpose == Purpose::Release && document.number.is_none() {
            return Err(StatementError::NoNumber);
        }
        Ok(Self {
            repository: document.repository,
            release: document.release,
            number: document.number,
            purpose: document.purpose,
            time: document.time,
        })
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Release => "release",
            Self::Rollback => "rollback",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Statement {
        Statement {
            repository: "acme/prod/configs/project1".parse().unwrap(),
            release: Digest::sha256(b""),
            number: ReleaseNumber::new(3),
            purpose: Purpose::Release,
            time: "2026-01-02T03:04:05.678901234Z".parse().unwrap(),
        }
    }

    #[test]
    fn bytes_are_these() {
        let bytes = example().to_bytes();
        let text = r#"{"number":"v3","purpose":"release","release":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","repository":"acme/prod/configs/project1","time":"2026-01-02T03:04:05.678901Z","version":1}"#;
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), text);
        let parsed = Statement::parse(&bytes).unwrap();
        assert_eq!(parsed.to_bytes(), bytes);
        assert_eq!(parsed.number, ReleaseNumber::new(3));
    }

    /// Times were once kept to the second.
    #[test]
    fn a_time_in_seconds_is_read_too() {
        let text = String::from_utf8(example().to_bytes()).unwrap();
        let seconds = text.replace(".678901Z", "Z");
        assert_ne!(seconds, text);
        let parsed = Statement::parse(seconds.as_bytes()).unwrap();
        assert_eq!(parsed.to_bytes(), seconds.as_bytes());
    }

    #[test]
    fn only_what_is_understood_to_the_letter_is_read() {
        let text = String::from_utf8(example().to_bytes()).unwrap();
        let refused = |from: &str, to: &str, expected: &str| {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            let error = Statement::parse(changed.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        refused("\"version\":1", "\"version\":2,\"new\":0", "version 2");
        refused("\"version\":1", "\"version\":1,\"new\":0", "unknown field");
        refused("\"version\":1", "\"version\":1,\"version\":1", "duplicate");
        refused("\"purpose\":\"release\"", "\"purpose\":\"other\"", "other");
        refused("\"number\":\"v3\",", "", "without a number");
        refused("\"v3\"", "\"v03\"", "v03");
        refused("sha256:", "md5:", "md5");
        refused("acme/", "Acme/", "Acme");
        refused("2026-01-02T", "yesterday ", "year");
        refused("}", "} x", "trailing");
    }

    #[test]
    fn long_and_short_ones_are_refused() {
        let long = vec![b' '; 4097];
        let error = Statement::parse(&long).unwrap_err();
        assert!(matches!(error, StatementError::TooLarge(4097)));
        for text in ["", "{}", "[]", "{\"version\":1}", "{\"version\":-1}"] {
            assert!(Statement::parse(text.as_bytes()).is_err(), "{text}");
        }
        let without = Statement {
            number: None,
            purpose: Purpose::Rollback,
            ..example()
        };
        let parsed = Statement::parse(&without.to_bytes()).unwrap();
        assert_eq!((parsed.number, parsed.purpose), (None, Purpose::Rollback));
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_to_bytes(
            number in proptest::option::of(1u64..),
            microsecond in 0i64..4_000_000_000_000_000,
        ) {
            let statement = Statement {
                number: number.and_then(ReleaseNumber::new),
                purpose: if number.is_some() { Purpose::Release } else { Purpose::Rollback },
                time: Timestamp::from_microsecond(microsecond).unwrap(),
                ..example()
            };
            prop_assert_eq!(Statement::parse(&statement.to_bytes()).unwrap(), statement);
        }

        #[test]
        fn parsing_anything_never_panics(bytes: Vec<u8>) {
            let _ = Statement::parse(&bytes);
        }
    }
}
