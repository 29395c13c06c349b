//! The fingerprint of a registry's key, as OpenSSH prints it. Parsed by whoever takes one from
//! a user; compared while a TLS connection is made.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

/// `SHA256:<43 characters of base 64>`: the SHA-256 digest of a public key in the wire encoding
/// of SSH (RFC 5656 §3.1), the text that `ssh-keygen -l` shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// A text that is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no fingerprint: it must read `SHA256:` and 43 characters, as the registry logs it", .0.escape_debug())]
pub struct FingerprintError(String);

impl Fingerprint {
    /// Returns the fingerprint with these bytes.
    pub(super) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// The label may be written `sha256:` too, as the original's help had it.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let error = || FingerprintError(text.to_owned());
        let (label, value) = text.split_once(':').ok_or_else(error)?;
        if !label.eq_ignore_ascii_case("sha256") {
            return Err(error());
        }
        let bytes = STANDARD_NO_PAD
            .decode(value.trim_end_matches('='))
            .map_err(|_| error())?;
        bytes.try_into().map(Self).map_err(|_| error())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SHA256:{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_survive_a_round_trip() {
        let text = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        assert_eq!(text.parse::<Fingerprint>().unwrap().to_string(), text);
        let lower = format!("{}=", text.replace("SHA256", "sha256"));
        assert_eq!(lower.parse::<Fingerprint>().unwrap().to_string(), text);
    }

    #[test]
    fn what_is_no_fingerprint_is_refused() {
        for bad in [
            "",
            "SHA256:",
            "SHA256:abc",
            "MD5:47DEQpj8",
            "47DEQpj8HBSa+/TImW",
        ] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
