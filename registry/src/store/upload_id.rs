//! Names of uploads. Made by `uploads`; part of the URLs that clients get.

use std::{fmt, str::FromStr};

use rand::RngExt as _;

/// Names an upload: a random UUID, which nobody guesses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Box<str>);

impl UploadId {
    /// Returns an id that was never given out (RFC 9562, version 4).
    pub(super) fn random() -> Self {
        let mut bits: u128 = rand::rng().random();
        bits = (bits & !(0xf << 76)) | (0x4 << 76);
        bits = (bits & !(0x3 << 62)) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        let groups = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        Self(groups.join("-").into())
    }
}

/// A text that is no id of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an upload")]
pub struct UploadIdError;

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, UploadIdError> {
        let fits = text.len() == 36
            && text.bytes().enumerate().all(|(index, byte)| match index {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        fits.then(|| Self(text.into())).ok_or(UploadIdError)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_uuids() {
        let id = UploadId::random();
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert_eq!(id.to_string().as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.to_string().as_bytes()[19]));
        assert_ne!(id, UploadId::random());
        for text in [
            "",
            "../../etc/passwd",
            "00000000-0000-4000-8000-00000000000G",
        ] {
            assert_eq!(text.parse::<UploadId>(), Err(UploadIdError));
        }
    }
}
