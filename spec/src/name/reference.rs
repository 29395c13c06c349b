//! Names of content: a manifest by tag or digest, a version of a component. Used by whoever
//! takes such a name from a user or a path.

use std::{fmt, str::FromStr};

use super::{ComponentName, NameError, Tag, Version};
use crate::digest::Digest;

/// A manifest within its repository: by tag or by digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A tag, which may move.
    Tag(Tag),
    /// A digest, which never does.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = NameError;

    /// Whatever holds a colon must be a digest: no tag does.
    fn from_str(text: &str) -> Result<Self, NameError> {
        Ok(match text.contains(':') {
            true => Self::Digest(text.parse()?),
            false => Self::Tag(text.parse()?),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(formatter),
            Self::Digest(digest) => digest.fmt(formatter),
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// A version of a component, written `component:version`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerReference {
    /// The component.
    pub component: ComponentName,
    /// Its version.
    pub version: Version,
}

impl FromStr for LayerReference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (component, version) = text.split_once(':').ok_or_else(|| NameError::Grammar {
            kind: "layer",
            text: text.to_owned(),
            rule: "`component:version`",
        })?;
        Ok(Self {
            component: component.parse()?,
            version: version.parse()?,
        })
    }
}

impl fmt::Display for LayerReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.component, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_tell_tags_from_digests() {
        let digest = Digest::sha256(b"");
        assert_eq!(digest.to_string().parse(), Ok(Reference::Digest(digest)));
        assert_eq!("v1".parse(), Ok(Reference::Tag("v1".parse().unwrap())));
        for bad in ["", "sha256:ab", "a/b", "md5:ab"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn layer_references_split_at_the_colon() {
        let layer: LayerReference = "code:v01".parse().unwrap();
        assert_eq!(
            (layer.component.as_str(), layer.version.as_str()),
            ("code", "v01")
        );
        for bad in ["code", "code:", ":v1", "code:v:1", "Code:v1"] {
            assert!(bad.parse::<LayerReference>().is_err(), "{bad}");
        }
    }
}
