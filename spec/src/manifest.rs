//! The lenient view of any manifest: what it references, whoever wrote it.
//! The registry checks and links pushed manifests by it; clients walk and copy by it. The
//! bytes of a manifest are never rebuilt from this view.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, media_type};

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or a property of the wrong type.
    #[error("the manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// The document names another media type than the request that carried it.
    #[error("the manifest says its media type is `{document}`, the request says `{request}`")]
    MediaTypeMismatch {
        /// From the document's `mediaType`.
        document: String,
        /// From `Content-Type`.
        request: String,
    },
    /// Neither the document nor the request says what it is, and its shape does not tell.
    #[error(
        "the manifest has no media type, and neither `layers` nor `manifests` tells what it is"
    )]
    NoMediaType,
    /// A schema version other than 2.
    #[error("manifest schema version {0} is not supported, only 2 is")]
    SchemaVersion(u64),
    /// `layers` and `manifests` in one document: readers could disagree on what it is.
    #[error("the manifest has both `layers` and `manifests`")]
    Ambiguous,
}

/// A reference to content: what it is, its digest and its size (OCI image-spec, descriptor).
///
/// Ours beside `oci_spec`'s because what is read here comes from anybody and is written back:
/// annotations keep a stable order, and a digest that nobody can check is refused at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Where else it may be downloaded; layers with URLs need not be in the registry.
    #[serde(default, skip_serializing_if = "nothing")]
    pub urls: Option<Vec<String>>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "nothing")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What platform the content is for, in an index.
    #[serde(default, skip_serializing_if = "nothing")]
    pub platform: Option<oci_spec::image::Platform>,
    /// Type of the artifact, where the content is a manifest of one.
    #[serde(default, skip_serializing_if = "nothing")]
    pub artifact_type: Option<String>,
    /// The content itself in base 64, where it is small.
    #[serde(default, skip_serializing_if = "nothing")]
    pub data: Option<String>,
}

fn nothing<T>(option: &Option<T>) -> bool {
    option.is_none()
}

impl Descriptor {
    /// Returns a descriptor with the three required properties.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: None,
            annotations: None,
            platform: None,
            artifact_type: None,
            data: None,
        }
    }

    /// Returns the value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// What a manifest is and what it references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Its media type, without parameters.
    pub media_type: String,
    /// Its own `artifactType`, where it has one.
    pub artifact_type: Option<String>,
    /// The configuration blob, of image manifests.
    pub config: Option<Descriptor>,
    /// Layer blobs, of image manifests.
    pub layers: Vec<Descriptor>,
    /// Other manifests, of indexes.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one refers to; it need not exist.
    pub subject: Option<Descriptor>,
    /// Free annotations.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Outline {
    /// Returns the outline of a manifest that came with this `Content-Type`, if with any.
    ///
    /// Accepts OCI image manifests and indexes, Docker's schema 2 manifests and lists, and
    /// documents of other media types with the same properties. Unknown properties are passed
    /// over, absent lists are empty ones.
    ///
    /// # Errors
    /// [`ManifestError`] where the bytes are no such document or contradict `content_type`.
    pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, ManifestError> {
        let document: Document = serde_json::from_slice(bytes)?;
        if let Some(version) = document.schema_version.filter(|version| *version != 2) {
            return Err(ManifestError::SchemaVersion(version));
        }
        let is_image = document.layers.is_some() || document.config.is_some();
        let is_index = document.manifests.is_some();
        if is_image && is_index {
            return Err(ManifestError::Ambiguous);
        }
        let requested = content_type
            .map(without_parameters)
            .filter(|text| !text.is_empty());
        let media_type = match (document.media_type, requested) {
            (Some(document), Some(request)) if document != request => {
                return Err(ManifestError::MediaTypeMismatch {
                    document,
                    request: request.to_owned(),
                });
            }
            (Some(document), _) => document,
            (None, Some(request)) => request.to_owned(),
            (None, None) if is_image => media_type::IMAGE_MANIFEST.to_owned(),
            (None, None) if is_index => media_type::IMAGE_INDEX.to_owned(),
            (None, None) => return Err(ManifestError::NoMediaType),
        };
        Ok(Self {
            media_type,
            artifact_type: document.artifact_type.filter(|text| !text.is_empty()),
            config: document.config,
            layers: document.layers.unwrap_or_default(),
            manifests: document.manifests.unwrap_or_default(),
            subject: document.subject,
            annotations: document.annotations.unwrap_or_default(),
        })
    }

    /// True where the manifest lists other manifests and not blobs.
    pub fn is_index(&self) -> bool {
        self.media_type == media_type::IMAGE_INDEX
            || self.media_type == media_type::DOCKER_MANIFEST_LIST
            || (self.config.is_none() && !self.manifests.is_empty())
    }

    /// Returns the blobs that the manifest references: configuration, then layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers)
    }

    /// Returns the descriptor that the referrers endpoint lists for this manifest, whose bytes
    /// have this digest and size (distribution-spec, "Listing referrers").
    ///
    /// Its artifact type falls back to the configuration's media type, for image manifests
    /// only; annotations are the manifest's.
    pub fn descriptor(&self, digest: Digest, size: u64) -> Descriptor {
        let fallback = || self.config.as_ref().map(|config| config.media_type.clone());
        Descriptor {
            artifact_type: self.artifact_type.clone().or_else(fallback),
            annotations: (!self.annotations.is_empty()).then(|| self.annotations.clone()),
            ..Descriptor::new(self.media_type.clone(), digest, size)
        }
    }
}

/// Returns a media type without what follows its first `;`.
pub fn without_parameters(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{DIGEST}","size":0}}"#)
    }

    fn parse(document: &str) -> Result<Outline, ManifestError> {
        Outline::parse(None, document.as_bytes())
    }

    #[test]
    fn images_and_indexes_tell_what_they_are() {
        let config = descriptor("application/x");
        let image = parse(&format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{config}]}}"#
        ))
        .unwrap();
        assert_eq!(image.media_type, media_type::IMAGE_MANIFEST);
        assert!(!image.is_index());
        assert_eq!(image.blobs().count(), 2);
        let referrer = image.descriptor(Digest::sha256(b"x"), 1);
        assert_eq!(referrer.artifact_type.as_deref(), Some("application/x"));

        let index = parse(&format!(
            r#"{{"schemaVersion":2,"manifests":[{config}],"unknown":{{}}}}"#
        ))
        .unwrap();
        assert!(index.is_index());
        assert_eq!(
            index.descriptor(Digest::sha256(b"x"), 1).artifact_type,
            None
        );
        assert!(
            parse(r#"{"schemaVersion":2,"manifests":[]}"#)
                .unwrap()
                .is_index()
        );
    }

    #[test]
    fn media_type_of_document_and_request_must_agree() {
        let document = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
            media_type::IMAGE_INDEX
        );
        let parameters = format!("{}; charset=utf-8", media_type::IMAGE_INDEX);
        assert!(Outline::parse(Some(&parameters), document.as_bytes()).is_ok());
        assert!(matches!(
            Outline::parse(Some(media_type::IMAGE_MANIFEST), document.as_bytes()),
            Err(ManifestError::MediaTypeMismatch { .. })
        ));
        assert!(matches!(
            parse(r#"{"schemaVersion":2}"#),
            Err(ManifestError::NoMediaType)
        ));
    }

    #[test]
    fn documents_that_are_no_manifest_are_refused() {
        let config = descriptor("application/x");
        assert!(matches!(parse("<html>"), Err(ManifestError::Json(_))));
        assert!(matches!(
            parse(r#"{"layers":{}}"#),
            Err(ManifestError::Json(_))
        ));
        assert!(matches!(
            parse(r#"{"schemaVersion":1,"layers":[]}"#),
            Err(ManifestError::SchemaVersion(1))
        ));
        assert!(matches!(
            parse(&format!(
                r#"{{"layers":[{config}],"manifests":[{config}]}}"#
            )),
            Err(ManifestError::Ambiguous)
        ));
        let bad = config.replace(DIGEST, "sha256:ab");
        assert!(matches!(
            parse(&format!(r#"{{"layers":[{bad}]}}"#)),
            Err(ManifestError::Json(_))
        ));
    }

    #[test]
    fn descriptors_survive_a_round_trip_without_gaining_properties() {
        let text = format!(
            r#"{{"mediaType":"a/b","digest":"{DIGEST}","size":7,"annotations":{{"a":"1","b":"2"}}}}"#
        );
        let descriptor: Descriptor = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&descriptor).unwrap(), text);
        assert_eq!(descriptor.annotation("b"), Some("2"));
    }

    proptest! {
        #[test]
        fn parsing_anything_never_panics(bytes: Vec<u8>, content_type: Option<String>) {
            let _ = Outline::parse(content_type.as_deref(), &bytes);
        }
    }
}
