//! Names: repositories, components, configurations, versions, channels, releases.
//! Parsed once at the edge; inside, only these types are passed. The rules are those of the
//! OCI distribution specification ("Pulling manifests") with the limits of this project.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::DigestError;

mod prefix;
mod reference;
mod release_number;

pub use prefix::{Owned, PREFIX_MAX, Prefix};
pub use reference::{LayerReference, Reference};
pub use release_number::ReleaseNumber;

/// The longest repository name in bytes. Clients put it behind a host name into a reference
/// that may be 255 bytes long, so that registries commonly stop there (distribution-spec).
pub const REPOSITORY_MAX: usize = 255;
/// The longest tag in bytes (distribution-spec).
pub const TAG_MAX: usize = 128;
/// The longest component or configuration name in bytes: leaves as much for a prefix.
pub const NAME_MAX: usize = 120;

const COMPONENT_RULE: &str =
    "lower-case letters and digits, with single `.`, `_`, `__` or any number of `-` between them";
const TAG_RULE: &str =
    "at most 128 letters, digits, `_`, `.` and `-`, and neither `.` nor `-` comes first";

/// Why a text is no name of the kind that was asked for. The message holds the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Outside the grammar.
    #[error("`{}` is no {kind}: it must be {rule}", escaped(.text))]
    Grammar {
        /// What was wanted, in words.
        kind: &'static str,
        /// What was given.
        text: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// Longer than allowed.
    #[error("`{}…` is no {kind}: it has {length} bytes, at most {limit} are allowed", escaped(&first_bytes(.text)))]
    TooLong {
        /// What was wanted, in words.
        kind: &'static str,
        /// What was given.
        text: String,
        /// Its length in bytes.
        length: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// A channel that looks like a release.
    #[error("`{0}` is no channel: names made of `v` and digits are those of releases")]
    ReleaseAsChannel(String),
    /// A digest where a tag or a digest may stand.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

fn escaped(text: &str) -> String {
    text.escape_debug().to_string()
}

fn first_bytes(text: &str) -> String {
    text.chars().take(32).collect()
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` (distribution-spec, one component of `<name>`).
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes
        .split(|byte| alphanumeric(*byte))
        .all(|separator| match separator {
            b"" | b"." | b"_" | b"__" => true,
            run => run.iter().all(|byte| *byte == b'-'),
        })
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (distribution-spec, `<reference>` as a tag).
fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= TAG_MAX
        && word(bytes[0])
        && bytes.iter().all(|byte| word(*byte) || b".-".contains(byte))
}

fn check(
    kind: &'static str,
    text: &str,
    limit: usize,
    fits: bool,
    rule: &'static str,
) -> Result<(), NameError> {
    if text.len() > limit {
        return Err(NameError::TooLong {
            kind,
            text: text.to_owned(),
            length: text.len(),
            limit,
        });
    }
    if fits {
        return Ok(());
    }
    Err(NameError::Grammar {
        kind,
        text: text.to_owned(),
        rule,
    })
}

/// A newtype over a checked string: display, parsing, JSON and order all are the string's.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, |$text:ident| $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str($text: &str) -> Result<Self, NameError> {
                $check?;
                Ok(Self($text.into()))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:?}", self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The name of a repository: path components separated by `/`, at most 255 bytes.
    RepositoryName,
    |text| check(
        "repository name",
        text,
        REPOSITORY_MAX,
        text.split('/').all(is_path_component),
        "one or more parts separated by `/`, each of lower-case letters and digits, with single `.`, `_`, `__` or any number of `-` between them",
    )
);

name!(
    /// The name of a component: one path component, at most 120 bytes.
    ComponentName,
    |text| check("component name", text, NAME_MAX, is_path_component(text), COMPONENT_RULE)
);

name!(
    /// The name of a configuration: one path component, at most 120 bytes.
    ConfigurationName,
    |text| check("configuration name", text, NAME_MAX, is_path_component(text), COMPONENT_RULE)
);

name!(
    /// A tag of a repository, at most 128 bytes.
    Tag,
    |text| check("tag", text, TAG_MAX, is_tag(text), TAG_RULE)
);

name!(
    /// A version of a component: any tag.
    Version,
    |text| check("version", text, TAG_MAX, is_tag(text), TAG_RULE)
);

name!(
    /// A channel of a configuration: any tag that is not a release's, `v<digits>`.
    Channel,
    |text| check("channel", text, TAG_MAX, is_tag(text), TAG_RULE).and_then(|()| {
        match looks_like_release(text) {
            true => Err(NameError::ReleaseAsChannel(text.to_owned())),
            false => Ok(()),
        }
    })
);

/// True for `v` and digits, leading zeros too: what a reader would take for a release.
fn looks_like_release(text: &str) -> bool {
    text.strip_prefix('v').is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

impl Channel {
    /// Returns the channel that is meant unless another is named: `latest`.
    pub fn latest() -> Self {
        Self("latest".into())
    }
}

impl Default for Channel {
    fn default() -> Self {
        Self::latest()
    }
}

impl From<&Version> for Tag {
    fn from(version: &Version) -> Self {
        Self(version.0.clone())
    }
}

impl From<&Tag> for Version {
    fn from(tag: &Tag) -> Self {
        Self(tag.0.clone())
    }
}

impl From<&Channel> for Tag {
    fn from(channel: &Channel) -> Self {
        Self(channel.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) const PATH_COMPONENT: &str = "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}";

    #[test]
    fn names_follow_the_grammar_of_a_path_component() {
        let long = "a".repeat(NAME_MAX);
        for good in [
            "a", "0", "a.b", "a_b", "a__b", "a-b", "a---b", "1.2.3", &long,
        ] {
            assert_eq!(good.parse::<ComponentName>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(NAME_MAX + 1);
        for bad in [
            "", "A", "a..b", "a___b", "-a", "a-", ".a", "a_", "a/b", "a b", "a\n", "ä", "a.-b",
            "a:b", &too_long,
        ] {
            assert!(bad.parse::<ComponentName>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "Code".parse::<ComponentName>().unwrap_err().to_string(),
            "`Code` is no component name: it must be lower-case letters and digits, with single `.`, `_`, `__` or any number of `-` between them"
        );
        assert!(
            "a\u{1b}[2J"
                .parse::<Tag>()
                .unwrap_err()
                .to_string()
                .contains(r"\u{1b}")
        );
    }

    #[test]
    fn repository_names_have_parts_and_a_limit() {
        for good in ["a", "a/b", "acme/prod/components/code"] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        let too_long = format!("a/{}", "b".repeat(REPOSITORY_MAX - 1));
        for bad in ["", "/a", "a/", "a//b", "a/B", "_a", "../a", &too_long] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_versions_and_channels() {
        let long = "x".repeat(TAG_MAX);
        for good in ["v01", "1.0.0", "_x", "A-b.C", &long] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
            assert!(good.parse::<Version>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a:b", "a/b", "a b", &format!("{long}x")] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
        for bad in ["v1", "v01", "v99999999999999999999999"] {
            assert_eq!(
                bad.parse::<Channel>(),
                Err(NameError::ReleaseAsChannel(bad.into()))
            );
        }
        for good in ["latest", "v", "v1.0", "vnext", "stable"] {
            assert!(good.parse::<Channel>().is_ok(), "{good}");
        }
    }

    proptest! {
        #[test]
        fn every_name_of_the_grammar_survives_a_round_trip(
            component in PATH_COMPONENT,
            tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}",
            number in 1u64..,
        ) {
            let name: ComponentName = component.parse().unwrap();
            prop_assert_eq!(name.to_string(), component.clone());
            let layer: LayerReference = format!("{component}:{tag}").parse().unwrap();
            prop_assert_eq!(layer.to_string(), format!("{component}:{tag}"));
            let number = ReleaseNumber::new(number).unwrap();
            prop_assert_eq!(number.to_string().parse::<ReleaseNumber>().unwrap(), number);
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(serde_json::from_str::<ComponentName>(&json).unwrap(), name);
        }

        #[test]
        fn parsing_anything_never_panics(text: String) {
            let _ = text.parse::<RepositoryName>().map_err(|error| error.to_string());
            let _ = text.parse::<Reference>().map_err(|error| error.to_string());
            let _ = text.parse::<LayerReference>().map_err(|error| error.to_string());
            let _ = text.parse::<Channel>().map_err(|error| error.to_string());
            let _ = text.parse::<Prefix>().map_err(|error| error.to_string());
            let _ = text.parse::<ReleaseNumber>();
        }
    }
}
