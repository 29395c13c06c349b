//! What lines of keys and of users have in common: options that narrow what somebody may do, and what
//! can be wrong. Pure; used by the files that read lines.

use std::ops::RangeInclusive;

use deploy_spec::openssh::{QuotesError, parse_time, unquote};
use jiff::tz::TimeZone;

use super::{Grant, Pattern};

/// What bcrypt may cost: from what it takes at least to what `htpasswd` writes at most.
pub(super) const COSTS: RangeInclusive<u32> = 4..=17;

/// What is wrong with a line of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no key, or none that this program knows.
    #[error("no public key such as `ssh-ed25519 AAAA… comment`")]
    Key,
    /// There is no name, or no hash behind it.
    #[error("no user such as `NAME:$2y$…`\nhint: `htpasswd -B FILE NAME` writes one")]
    User,
    /// The name would mean something else somewhere, or cannot be shown.
    #[error("`{0}` is no name for a user")]
    Name(String),
    /// Whoever has the file could find out the passwords, or they are not understood here.
    #[error(
        "the password of `{user}` is kept as {kind}, which this registry does not take\nhint: `htpasswd -B FILE {user}` keeps it with bcrypt"
    )]
    Hash {
        /// Whose.
        user: String,
        /// As what it is kept.
        kind: &'static str,
    },
    /// Checking the password would take too long, or nothing at all.
    #[error(
        "the password of `{user}` has the cost {cost}, which is not from {} to {}", COSTS.start(), COSTS.end()
    )]
    Cost {
        /// Whose.
        user: String,
        /// Its logarithm to the base of 2.
        cost: u32,
    },
    /// One user cannot have two passwords.
    #[error("user `{user}` stands in line {line} too")]
    UserTwice {
        /// Which.
        user: String,
        /// Where it stands first.
        line: usize,
    },
    /// A quotation mark is missing, or something stands behind one.
    #[error(transparent)]
    Quotes(#[from] QuotesError),
    /// Passing it over could let somebody do more than was meant.
    #[error(
        "option `{0}` is none that this registry heeds\nhint: `repository=\"NAME\"` and `expiry-time=\"YYYYMMDD\"` narrow a key"
    )]
    Option(String),
    /// The same of a user.
    #[error(
        "option `{0}` is none that this registry heeds\nhint: a user has `read` or `write`, and `repository=\"NAME\"` and `expiry-time=\"YYYYMMDD\"` narrow that"
    )]
    UserOption(String),
    /// An option needs another value.
    #[error("option `{option}` has the value `{value}`, which is no {expected}")]
    Value {
        /// The option.
        option: &'static str,
        /// What it has.
        value: String,
        /// What it ought to have.
        expected: &'static str,
    },
    /// One key cannot have two rights.
    #[error("the key stands in line {0} too")]
    Twice(usize),
}

/// Narrows what may be done as an option says; returns whether it is one that does that.
///
/// # Errors
/// [`Fault`] where its value is none.
pub(super) fn narrow(grant: &mut Grant, name: &str, value: Option<&str>) -> Result<bool, Fault> {
    match (name.to_ascii_lowercase().as_str(), value) {
        ("repository", Some(value)) => {
            let patterns = unquote(value)?;
            let patterns = patterns.split(',').map(|text| Pattern::new(text.trim()));
            let repositories = grant.repositories.get_or_insert_default();
            repositories.extend(patterns);
        }
        ("expiry-time", Some(value)) => {
            let text = unquote(value)?;
            let expires = parse_time(&text, TimeZone::system()).ok_or(Fault::Value {
                option: "expiry-time",
                value: text,
                expected: "time as YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with a Z where it is UTC",
            })?;
            // The earliest one counts.
            let earliest = grant.expires.map_or(expires, |known| known.min(expires));
            grant.expires = Some(earliest);
        }
        _ => return Ok(false),
    }
    Ok(true)
}
