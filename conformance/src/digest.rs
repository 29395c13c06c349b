//! Digests of content under test. For whoever builds content or compares it.

use sha2::{Digest as _, Sha256, Sha512};

/// The algorithms that the image specification registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// The word before the colon.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The digest of `bytes`, `algorithm:hex`.
    pub(crate) fn of(self, bytes: &[u8]) -> String {
        let hex = match self {
            Self::Sha256 => hex::encode(Sha256::digest(bytes)),
            Self::Sha512 => hex::encode(Sha512::digest(bytes)),
        };
        format!("{}:{hex}", self.as_str())
    }

    /// The algorithm that a digest names, where it is one of these.
    pub(crate) fn named_in(digest: &str) -> Option<Self> {
        match digest.split_once(':')?.0 {
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }
}

/// The digest that clients use when nothing else is asked for.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Algorithm::Sha256.of(bytes)
}

/// True where `digest` is of a known algorithm and is the digest of `bytes`.
pub(crate) fn matches(digest: &str, bytes: &[u8]) -> bool {
    Algorithm::named_in(digest).is_some_and(|algorithm| algorithm.of(bytes) == digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests_are_computed() {
        assert_eq!(
            sha256(b""),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert!(
            Algorithm::Sha512
                .of(b"")
                .starts_with("sha512:cf83e1357eefb8bd")
        );
    }

    #[test]
    fn a_digest_matches_only_its_own_bytes() {
        assert!(matches(&Algorithm::Sha512.of(b"x"), b"x"));
        assert!(!matches(&sha256(b"x"), b"y"));
        assert!(!matches("md5:00", b"x"));
    }
}
