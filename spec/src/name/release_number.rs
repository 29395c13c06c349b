//! The number of a release. Used by whoever reads or writes the tags of a configuration.

use std::{fmt, num::NonZeroU64, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{NameError, Tag};

/// The number of a release, from 1; displayed and tagged as `v<N>` without leading zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReleaseNumber(NonZeroU64);

impl ReleaseNumber {
    /// The first release of a configuration.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// Returns the release with this number; nothing for 0.
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Returns the number.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// Returns the number after this one. At the end of the range it stays there, so that
    /// a hostile tag cannot make numbering start anew.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for ReleaseNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "v{}", self.0)
    }
}

impl FromStr for ReleaseNumber {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.strip_prefix('v')
            .filter(|digits| !digits.starts_with(['0', '+']))
            .and_then(|digits| digits.parse().ok())
            .map(Self)
            .ok_or_else(|| NameError::Grammar {
                kind: "release",
                text: text.to_owned(),
                rule: "`v` and a number from 1, without leading zeros",
            })
    }
}

impl From<ReleaseNumber> for Tag {
    fn from(number: ReleaseNumber) -> Self {
        Self(number.to_string().into())
    }
}

impl Serialize for ReleaseNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReleaseNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_numbers_have_one_spelling() {
        for bad in [
            "v0",
            "v01",
            "1",
            "v",
            "v+1",
            "v1.0",
            "V1",
            "v18446744073709551616",
        ] {
            assert!(bad.parse::<ReleaseNumber>().is_err(), "{bad}");
        }
        let last: ReleaseNumber = "v18446744073709551615".parse().unwrap();
        assert_eq!(last.next(), last);
        assert_eq!(ReleaseNumber::FIRST.next().to_string(), "v2");
    }
}
