//! The fingerprint of a registry's key, as OpenSSH prints it: logged by the registry, given to
//! clients, compared by them while a TLS connection is made.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

/// What stands before the 65 bytes of the point in a certificate's key: SubjectPublicKeyInfo of an
/// uncompressed P-256 key (RFC 5480 §2).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point (SEC 1 §2.3.3).
const POINT: usize = 65;

/// `SHA256:<43 characters of base 64>`: the SHA-256 digest of a public key in the wire encoding
/// of SSH (RFC 5656 §3.1), the text that `ssh-keygen -l` shows.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// A text that is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no fingerprint: it must read `SHA256:` and 43 characters, as the registry logs it", .0.escape_debug())]
pub struct FingerprintError(String);

impl Fingerprint {
    /// Returns the fingerprint of a public key in the wire encoding of SSH (RFC 4253 §6.6).
    pub fn of_ssh_key(encoded: &[u8]) -> Self {
        Self(Sha256::digest(encoded).into())
    }

    /// Returns the fingerprint of an ECDSA key on P-256 that stands in a certificate, encoded as
    /// its SubjectPublicKeyInfo; nothing where it is another kind of key.
    pub fn of_public_key_info(encoded: &[u8]) -> Option<Self> {
        let point = encoded.strip_prefix(&P256_PREFIX)?;
        if point.len() != POINT {
            return None;
        }
        let mut key = Vec::new();
        // RFC 5656 §3.1, each field with its length before it.
        for field in [&b"ecdsa-sha2-nistp256"[..], b"nistp256", point] {
            let length = u32::try_from(field.len()).expect("the fields are short");
            key.extend(length.to_be_bytes());
            key.extend(field);
        }
        Some(Self::of_ssh_key(&key))
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
