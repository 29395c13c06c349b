//! Error codes and the error envelope of the distribution specification ("Error codes").
//! Written by the registry, read by clients.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The codes of the distribution specification, all fourteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Code 1: blob unknown to registry.
    BlobUnknown,
    /// Code 2: blob upload invalid.
    BlobUploadInvalid,
    /// Code 3: blob upload unknown to registry.
    BlobUploadUnknown,
    /// Code 4: provided digest did not match uploaded content.
    DigestInvalid,
    /// Code 5: manifest references a manifest or blob unknown to registry.
    ManifestBlobUnknown,
    /// Code 6: manifest invalid.
    ManifestInvalid,
    /// Code 7: manifest unknown to registry.
    ManifestUnknown,
    /// Code 8: invalid repository name.
    NameInvalid,
    /// Code 9: repository name not known to registry.
    NameUnknown,
    /// Code 10: provided length did not match content length.
    SizeInvalid,
    /// Code 11: authentication required.
    Unauthorized,
    /// Code 12: requested access to the resource is denied.
    Denied,
    /// Code 13: the operation is unsupported.
    Unsupported,
    /// Code 14: too many requests.
    TooManyRequests,
}

impl ErrorCode {
    /// Every code, in the order of the specification.
    pub const ALL: [Self; 14] = [
        Self::BlobUnknown,
        Self::BlobUploadInvalid,
        Self::BlobUploadUnknown,
        Self::DigestInvalid,
        Self::ManifestBlobUnknown,
        Self::ManifestInvalid,
        Self::ManifestUnknown,
        Self::NameInvalid,
        Self::NameUnknown,
        Self::SizeInvalid,
        Self::Unauthorized,
        Self::Denied,
        Self::Unsupported,
        Self::TooManyRequests,
    ];

    /// Returns the code as the specification spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
        }
    }

    /// Returns the HTTP status that goes with the code where the endpoint names no other.
    pub const fn status(self) -> u16 {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown => 404,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestBlobUnknown
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::SizeInvalid => 400,
            Self::Unauthorized => 401,
            Self::Denied => 403,
            Self::Unsupported => 405,
            Self::TooManyRequests => 429,
        }
    }

    /// Returns the code spelled like this; nothing for a code of somebody's own.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The body of an answer that reports errors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// What went wrong; at least one entry where a registry follows the specification.
    pub errors: Vec<ErrorBody>,
}

/// One error of an [`Envelope`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// An [`ErrorCode`], or a code that the registry made up.
    pub code: String,
    /// What to tell a person.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "text_or_nothing"
    )]
    pub message: String,
    /// Anything that a program may want to look at.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

/// Registries send `null` and worse where a text may stand; an error must stay readable.
fn text_or_nothing<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    })
}

impl Envelope {
    /// Returns an envelope with one error and nothing in its detail.
    pub fn one(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            errors: vec![ErrorBody {
                code: code.as_str().to_owned(),
                message: message.into(),
                detail: serde_json::Value::Null,
            }],
        }
    }

    /// Returns the envelope in a body; nothing where the body is something else, as from a
    /// proxy that answers in HTML.
    pub fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Returns the envelope as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an envelope has string keys only")
    }

    /// Returns the code of the first error where it is one of the specification's.
    pub fn code(&self) -> Option<ErrorCode> {
        ErrorCode::parse(&self.errors.first()?.code)
    }
}

impl fmt::Display for Envelope {
    /// Writes `CODE: message` for each error, separated by `; `.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            formatter.write_str(separator)?;
            write_visible(formatter, &error.code)?;
            if !error.message.is_empty() {
                formatter.write_str(": ")?;
                write_visible(formatter, &error.message)?;
            }
        }
        Ok(())
    }
}

/// Writes text of strangers: what a terminal would obey is escaped, quotes are left alone.
fn write_visible(formatter: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for character in text.chars() {
        match character {
            '\'' | '"' => fmt::Write::write_char(formatter, character)?,
            other => write!(formatter, "{}", other.escape_debug())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelled_one_way_and_found_again() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
            assert!((400..500).contains(&code.status()));
        }
        assert_eq!(ErrorCode::parse("BLOB_UPLOAD"), None);
    }

    #[test]
    fn envelopes_survive_a_round_trip() {
        let envelope = Envelope::one(ErrorCode::ManifestUnknown, "no such tag");
        assert_eq!(
            String::from_utf8(envelope.to_json()).unwrap(),
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such tag"}]}"#
        );
        assert_eq!(Envelope::parse(&envelope.to_json()), Some(envelope.clone()));
        assert_eq!(envelope.code(), Some(ErrorCode::ManifestUnknown));
        assert_eq!(envelope.to_string(), "MANIFEST_UNKNOWN: no such tag");
    }

    #[test]
    fn envelopes_of_others_are_read_leniently() {
        let body =
            br#"{"errors":[{"code":"X","message":null,"detail":[1]},{"code":"DENIED","extra":1}]}"#;
        let envelope = Envelope::parse(body).unwrap();
        assert_eq!(envelope.to_string(), "X; DENIED");
        assert_eq!(envelope.code(), None);
        let hostile = Envelope::one(ErrorCode::Denied, "the \"owner's\"\n\u{1b}[2J");
        assert_eq!(hostile.to_string(), "DENIED: the \"owner's\"\\n\\u{1b}[2J");
        assert_eq!(Envelope::parse(b"<html>"), None);
        assert_eq!(Envelope::parse(b"{}"), None);
    }
}
