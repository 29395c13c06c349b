//! Files of allowed signers (ssh-keygen(1), "ALLOWED SIGNERS"): whose signatures count, for what,
//! and when. Pure but for the one function that reads.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use deploy_spec::{
    Fingerprint,
    openssh::{self, QuotesError},
};
use jiff::{Timestamp, tz::TimeZone};
use ssh_key::{Algorithm, PublicKey};

/// A file of allowed signers is at most so large.
const FILE_MAX: u64 = 4 << 20;

/// Why there is no telling whose signatures count.
#[derive(Debug, thiserror::Error)]
pub enum SignersError {
    /// The file cannot be read.
    #[error("cannot read the allowed signers of `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line of it is wrong, and then the others do not count either.
    #[error("cannot use the allowed signers of `{}`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which, and what is wrong.
        source: LineError,
    },
    /// There is nobody in it.
    #[error("`{}` names nobody who may sign\nhint: a line is somebody and a public key, as `jane@example.com ssh-ed25519 AAAA…`", path.display())]
    Nobody {
        /// The file.
        path: PathBuf,
    },
}

/// The keys of a file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedSigners(Vec<AllowedSigner>);

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedSigner {
    /// Whose the key is: the patterns of the first field, as they stand there.
    pub principals: String,
    /// The key's fingerprint.
    pub fingerprint: Fingerprint,
    /// The key.
    pub(super) key: PublicKey,
    /// For what it signs; for everything without it.
    pub(super) namespaces: Option<String>,
    /// From when on it is valid.
    pub(super) valid_after: Option<Timestamp>,
    /// Until when it is.
    pub(super) valid_before: Option<Timestamp>,
}

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
    /// There is no key, or nobody before it.
    #[error("not somebody and a public key, as `jane@example.com ssh-ed25519 AAAA…`")]
    Key,
    /// A quotation mark is missing, or something stands behind one.
    #[error(transparent)]
    Quotes(#[from] QuotesError),
    /// Keys that an authority vouches for.
    #[error(
        "`cert-authority` is not supported: certificates say nothing here\nhint: list the keys of those who sign, a line each"
    )]
    CertAuthority,
    /// Keys whose signatures cannot be verified.
    #[error("keys of type `{0}` are not supported")]
    Algorithm(String),
    /// Passing it over could let somebody sign more than was meant.
    #[error(
        "option `{0}` is not known\nhint: `namespaces`, `valid-after` and `valid-before` are, each once and with its value in quotation marks"
    )]
    Option(String),
    /// A time that cannot be read.
    #[error(
        "option `{option}` has the value `{value}`, which is no time as YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with a Z where it is UTC"
    )]
    Time {
        /// The option.
        option: String,
        /// What it has.
        value: String,
    },
    /// It would be valid at no time.
    #[error("the key is valid until before it is valid from")]
    Never,
}

impl AllowedSigners {
    /// Reads a file's text; times without a `Z` are of this zone, which OpenSSH has as the
    /// system's.
    ///
    /// # Errors
    /// [`LineError`] for the first line that is wrong: one that is not understood might narrow
    /// what another one allows.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, LineError> {
        let mut signers = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let signer = parse_line(line, zone).map_err(|fault| LineError {
                line: index + 1,
                fault,
            })?;
            signers.push(signer);
        }
        Ok(Self(signers))
    }

    /// Reads a file, which has to name somebody.
    ///
    /// # Errors
    /// [`SignersError`], with the file.
    pub fn load(path: &Path, zone: &TimeZone) -> Result<Self, SignersError> {
        let owned = || path.to_owned();
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text))
            .and_then(|count| match count as u64 > FILE_MAX {
                true => Err(io::ErrorKind::FileTooLarge.into()),
                false => Ok(()),
            })
            .map_err(|source| SignersError::File {
                path: owned(),
                source,
            })?;
        let signers = Self::parse(&text, zone).map_err(|source| SignersError::Line {
            path: owned(),
            source,
        })?;
        match signers.is_empty() {
            true => Err(SignersError::Nobody { path: owned() }),
            false => Ok(signers),
        }
    }

    /// Returns one key alone, whoever has it.
    pub(crate) fn only(key: &PublicKey) -> Self {
        let encoded = key.to_bytes().unwrap_or_default();
        Self(vec![AllowedSigner {
            principals: "*".to_owned(),
            fingerprint: Fingerprint::of_ssh_key(&encoded),
            key: key.clone(),
            namespaces: None,
            valid_after: None,
            valid_before: None,
        }])
    }

    /// Returns the lines, in their order. A key may have several.
    pub fn iter(&self) -> impl Iterator<Item = &AllowedSigner> {
        self.0.iter()
    }

    /// Whether nobody is allowed to sign.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse_line(line: &str, zone: &TimeZone) -> Result<AllowedSigner, Fault> {
    let (principals, rest) = split_principals(line)?;
    let (options, key) = match read_key(rest) {
        Some(key) => ("", key),
        None => {
            let (options, rest) = openssh::split_options(rest)?.ok_or(Fault::Key)?;
            // The one option that says what the key is.
            let authority = |(name, _): (&str, _)| name.eq_ignore_ascii_case("cert-authority");
            if openssh::options(options).any(authority) {
                return Err(Fault::CertAuthority);
            }
            (options, read_key(rest).ok_or(Fault::Key)?)
        }
    };
    let verifiable = matches!(
        key.algorithm(),
        Algorithm::Ed25519
            | Algorithm::Ecdsa { .. }
            | Algorithm::Rsa { .. }
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256
    );
    if !verifiable {
        return Err(Fault::Algorithm(key.algorithm().to_string()));
    }
    let encoded = key.to_bytes().map_err(|_| Fault::Key)?;
    let mut signer = AllowedSigner {
        principals: principals.to_owned(),
        fingerprint: Fingerprint::of_ssh_key(&encoded),
        key,
        namespaces: None,
        valid_after: None,
        valid_before: None,
    };
    for (name, value) in openssh::options(options) {
        signer.narrow(name, value, zone)?;
    }
    match (signer.valid_after, signer.valid_before) {
        (Some(after), Some(before)) if before <= after => Err(Fault::Never),
        _ => Ok(signer),
    }
}

/// The first field may stand between quotation marks.
fn split_principals(line: &str) -> Result<(&str, &str), Fault> {
    let (principals, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or(QuotesError)?,
        None => line.split_once([' ', '\t']).ok_or(Fault::Key)?,
    };
    match principals.is_empty() {
        true => Err(Fault::Key),
        false => Ok((principals, rest.trim_start())),
    }
}

/// The type, the key in base 64, and a comment, which says nothing.
fn read_key(text: &str) -> Option<PublicKey> {
    let mut fields = text.split_ascii_whitespace();
    let (kind, encoded) = (fields.next()?, fields.next()?);
    PublicKey::from_openssh(&format!("{kind} {encoded}")).ok()
}

impl AllowedSigner {
    fn narrow(&mut self, name: &str, value: Option<&str>, zone: &TimeZone) -> Result<(), Fault> {
        let unknown = || Fault::Option(name.to_owned());
        let known = name.to_ascii_lowercase();
        let value = openssh::unquote(value.ok_or_else(unknown)?)?;
        let once = match known.as_str() {
            "namespaces" => self.namespaces.replace(value).is_none(),
            "valid-after" | "valid-before" => {
                let time = openssh::parse_time(&value, zone.clone());
                let time = time.ok_or_else(|| Fault::Time {
                    option: known.clone(),
                    value,
                })?;
                let place = match known.as_str() {
                    "valid-after" => &mut self.valid_after,
                    _ => &mut self.valid_before,
                };
                place.replace(time).is_none()
            }
            _ => false,
        };
        match once {
            true => Ok(()),
            false => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `ssh-keygen` made, and what `ssh-keygen -l` says of it.
    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q";
    const SHOWN: &str = "SHA256:FHsTyFHNmvNpw4o7+rp+M1yqMyBF8vXSBRkZtkQ0RKY";

    fn parse(text: &str) -> Result<AllowedSigners, LineError> {
        AllowedSigners::parse(text, &TimeZone::UTC)
    }

    fn one(line: &str) -> AllowedSigner {
        let mut signers = parse(line).unwrap();
        assert_eq!(signers.0.len(), 1, "{line}");
        signers.0.remove(0)
    }

    #[test]
    fn files_are_read_as_ssh_keygen_does() {
        let text = format!(
            "# who may\n\n jane@example.com,*@ops.example {ED25519} a comment\r\n\"two words\"\t{ED25519}\n"
        );
        let signers = parse(&text).unwrap();
        let principals: Vec<_> = signers.iter().map(|signer| &*signer.principals).collect();
        assert_eq!(principals, ["jane@example.com,*@ops.example", "two words"]);
        assert!(
            signers
                .iter()
                .all(|signer| signer.fingerprint.to_string() == SHOWN)
        );
        assert!(parse("# nobody\n").unwrap().is_empty());
    }

    #[test]
    fn options_narrow_a_key() {
        let signer = one(&format!(
            r#"jane namespaces="file,release@*",Valid-After="20260101",valid-before="20270101120000Z" {ED25519}"#
        ));
        assert_eq!(signer.namespaces.as_deref(), Some("file,release@*"));
        let time = |text: &str| Some(text.parse().unwrap());
        assert_eq!(signer.valid_after, time("2026-01-01T00:00:00Z"));
        assert_eq!(signer.valid_before, time("2027-01-01T12:00:00Z"));
        let east = TimeZone::fixed(jiff::tz::offset(1));
        let line = format!(r#"jane valid-after="20260101" {ED25519}"#);
        let signers = AllowedSigners::parse(&line, &east).unwrap();
        assert_eq!(signers.0[0].valid_after, time("2025-12-31T23:00:00Z"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let text = format!("jane {ED25519}\n\njoe ssh-ed25519 AAAA bad\n");
        let error = parse(&text).unwrap_err();
        assert_eq!((error.line, error.fault), (3, Fault::Key));
        let fault = |line: &str| parse(line).unwrap_err().fault;
        for line in ["x", "jane", ED25519, "jane namespaces=\"a\" x", "\"\" a b"] {
            assert_eq!(fault(line), Fault::Key, "{line}");
        }
        let quotes = Fault::Quotes(QuotesError);
        for options in ["namespaces=\"a", "namespaces=a"] {
            assert_eq!(fault(&format!("jane {options} {ED25519}")), quotes);
        }
        assert_eq!(fault(&format!("\"jane {ED25519}")), quotes);
        let authority = fault(&format!("*@x cert-authority,namespaces=\"a\" {ED25519}"));
        assert_eq!(authority, Fault::CertAuthority);
        assert!(authority.to_string().contains("not supported"));
        for option in ["namespace=\"a\"", "namespaces", "no-touch-required"] {
            let name = option.split('=').next().unwrap().to_owned();
            let found = fault(&format!("jane {option} {ED25519}"));
            assert_eq!(found, Fault::Option(name));
        }
        let twice = fault(&format!("jane namespaces=\"a\",namespaces=\"b\" {ED25519}"));
        assert_eq!(twice, Fault::Option("namespaces".to_owned()));
        let never = format!(r#"jane valid-after="20270101",valid-before="20270101" {ED25519}"#);
        assert_eq!(fault(&never), Fault::Never);
        let time = fault(&format!("jane valid-after=\"tomorrow\" {ED25519}"));
        assert!(matches!(time, Fault::Time { .. }), "{time}");
    }
}
