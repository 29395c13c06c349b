//! A component version ⇄ its manifest (README, "A component version").
//! Written by `deployctl`, read by whoever composes or checks configurations.

use std::collections::BTreeMap;

use jiff::Timestamp;
use oci_spec::image::{ImageManifest, ImageManifestBuilder, MediaType};

use crate::{
    annotation,
    digest::Digest,
    json,
    manifest::{Descriptor, ManifestError, Outline},
    media_type::{self, Compression},
    name::{ComponentName, Version},
};

/// The bytes of the OCI empty document, which every component version has as configuration.
pub const EMPTY_CONFIG: &[u8] = b"{}";

/// One immutable set of files of a component: an archive and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentVersion {
    /// The component.
    pub component: ComponentName,
    /// The version, also its tag.
    pub version: Version,
    /// When it was made; manifests of other clients need not say.
    pub created: Option<Timestamp>,
    /// The revision of the source that it was built from.
    pub revision: Option<String>,
    /// The archive.
    pub layer: Layer,
}

/// The archive of a component version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the bytes as stored.
    pub digest: Digest,
    /// Size of the bytes as stored.
    pub size: u64,
    /// The media type that the manifest names; other clients write what they like.
    pub media_type: String,
    /// Digest of the uncompressed tar archive, where the manifest says so.
    pub diff_id: Option<Digest>,
    /// Size of the uncompressed tar archive in bytes, where the manifest says so.
    pub unpacked_size: Option<u64>,
}

impl Layer {
    /// Returns the compression that the media type announces. What other clients push can be
    /// labelled otherwise than it is: before use, the first bytes decide.
    pub fn announced_compression(&self) -> Option<Compression> {
        Compression::of_layer(&self.media_type)
    }
}

/// Why a manifest is no component version.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// Not a manifest at all.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An index of several manifests.
    #[error("it is an index of {0} manifests, not a single archive")]
    Index(usize),
    /// Another number of layers than one.
    #[error("it has {0} layers, and a component version is exactly one archive")]
    Layers(usize),
    /// An annotation that cannot be read.
    #[error("its annotation `{key}` is `{}`, which is {problem}", value.escape_debug())]
    Annotation {
        /// The key.
        key: &'static str,
        /// The value found.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl ComponentVersion {
    /// Returns the bytes of the manifest: an OCI image manifest with an `artifactType`, the
    /// empty configuration and one layer. Equal values give equal bytes.
    pub fn to_manifest(&self) -> Vec<u8> {
        let mut annotations = BTreeMap::from([
            (annotation::TITLE, self.component.to_string()),
            (annotation::VERSION, self.version.to_string()),
        ]);
        if let Some(created) = self.created {
            annotations.insert(annotation::CREATED, created.to_string());
        }
        if let Some(revision) = &self.revision {
            annotations.insert(annotation::REVISION, revision.clone());
        }
        let mut layer_annotations = BTreeMap::new();
        if let Some(diff_id) = &self.layer.diff_id {
            layer_annotations.insert(annotation::DIFF_ID, diff_id.to_string());
        }
        if let Some(size) = self.layer.unpacked_size {
            layer_annotations.insert(annotation::UNPACKED_SIZE, size.to_string());
        }
        let layer = oci_descriptor(
            &self.layer.media_type,
            &self.layer.digest,
            self.layer.size,
            layer_annotations,
        );
        json::canonical(&image_manifest(
            media_type::COMPONENT,
            oci_descriptor(
                media_type::EMPTY,
                &Digest::sha256(EMPTY_CONFIG),
                EMPTY_CONFIG.len() as u64,
                BTreeMap::new(),
            ),
            vec![layer],
            annotations,
        ))
    }

    /// Returns the component version that a manifest under this name describes.
    ///
    /// Accepts any image manifest with exactly one layer, whoever pushed it; component and
    /// version are those it was found under, whatever its annotations say.
    ///
    /// # Errors
    /// [`ComponentError`], which says why the manifest is no single archive.
    pub fn parse(
        component: ComponentName,
        version: Version,
        manifest: &[u8],
    ) -> Result<Self, ComponentError> {
        let outline = Outline::parse(None, manifest)?;
        if outline.is_index() {
            return Err(ComponentError::Index(outline.manifests.len()));
        }
        let [layer] = <[Descriptor; 1]>::try_from(outline.layers)
            .map_err(|layers| ComponentError::Layers(layers.len()))?;
        let created = outline.annotations.get(annotation::CREATED);
        Ok(Self {
            component,
            version,
            created: created.map(|text| parse_time(text)).transpose()?,
            revision: outline.annotations.get(annotation::REVISION).cloned(),
            layer: Layer {
                diff_id: parse_diff_id(&layer)?,
                unpacked_size: parse_unpacked_size(&layer)?,
                digest: layer.digest,
                size: layer.size,
                media_type: layer.media_type,
            },
        })
    }
}

pub(crate) fn image_manifest(
    artifact_type: &str,
    config: oci_spec::image::Descriptor,
    layers: Vec<oci_spec::image::Descriptor>,
    annotations: BTreeMap<&str, String>,
) -> ImageManifest {
    ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .artifact_type(MediaType::from(artifact_type))
        .config(config)
        .layers(layers)
        .annotations(owned(annotations))
        .build()
        .expect("every required property is set")
}

pub(crate) fn oci_descriptor(
    media_type: &str,
    digest: &Digest,
    size: u64,
    annotations: BTreeMap<&str, String>,
) -> oci_spec::image::Descriptor {
    let mut descriptor = oci_spec::image::Descriptor::new(
        MediaType::from(media_type),
        size,
        oci_spec::image::Digest::from(digest),
    );
    if !annotations.is_empty() {
        descriptor.set_annotations(Some(owned(annotations)));
    }
    descriptor
}

fn owned(annotations: BTreeMap<&str, String>) -> std::collections::HashMap<String, String> {
    annotations
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

pub(crate) fn parse_time(text: &str) -> Result<Timestamp, ComponentError> {
    text.parse().map_err(|_| ComponentError::Annotation {
        key: annotation::CREATED,
        value: text.to_owned(),
        problem: "no RFC 3339 time",
    })
}

pub(crate) fn parse_diff_id(layer: &Descriptor) -> Result<Option<Digest>, ComponentError> {
    parse_annotation(layer, annotation::DIFF_ID, "no digest")
}

pub(crate) fn parse_unpacked_size(layer: &Descriptor) -> Result<Option<u64>, ComponentError> {
    parse_annotation(layer, annotation::UNPACKED_SIZE, "no size in bytes")
}

pub(crate) fn parse_annotation<T: std::str::FromStr>(
    descriptor: &Descriptor,
    key: &'static str,
    problem: &'static str,
) -> Result<Option<T>, ComponentError> {
    let Some(text) = descriptor.annotation(key) else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|_| ComponentError::Annotation {
            key,
            value: text.to_owned(),
            problem,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> ComponentVersion {
        ComponentVersion {
            component: "code".parse().unwrap(),
            version: "v01".parse().unwrap(),
            created: Some("2026-01-02T03:04:05.5Z".parse().unwrap()),
            revision: Some("1f0c2b7".into()),
            layer: Layer {
                digest: Digest::sha256(b"archive"),
                size: 7,
                media_type: media_type::LAYER_TAR_GZIP.into(),
                diff_id: Some(Digest::sha256(b"tar")),
                unpacked_size: Some(10240),
            },
        }
    }

    fn parse(manifest: &str) -> Result<ComponentVersion, ComponentError> {
        ComponentVersion::parse(
            "code".parse().unwrap(),
            "v01".parse().unwrap(),
            manifest.as_bytes(),
        )
    }

    #[test]
    fn equal_versions_have_equal_bytes() {
        assert_eq!(example().to_manifest(), example().to_manifest());
        let text = String::from_utf8(example().to_manifest()).unwrap();
        assert!(
            text.starts_with(
                r#"{"annotations":{"org.opencontainers.image.created":"2026-01-02T03:04:05.5Z","#
            ),
            "{text}"
        );
    }

    #[test]
    fn manifests_that_are_no_single_archive_say_why() {
        let layer = r#"{"mediaType":"a/b","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;
        let table = [
            (
                r#"{"manifests":[]}"#.to_owned(),
                "it is an index of 0 manifests, not a single archive",
            ),
            (
                r#"{"layers":[]}"#.to_owned(),
                "it has 0 layers, and a component version is exactly one archive",
            ),
            (
                format!(r#"{{"layers":[{layer},{layer}]}}"#),
                "it has 2 layers, and a component version is exactly one archive",
            ),
            (
                format!(
                    r#"{{"layers":[{layer}],"annotations":{{"org.opencontainers.image.created":"today"}}}}"#
                ),
                "its annotation `org.opencontainers.image.created` is `today`, which is no RFC 3339 time",
            ),
        ];
        for (manifest, expected) in table {
            assert_eq!(parse(&manifest).unwrap_err().to_string(), expected);
        }
        let foreign = parse(&format!(r#"{{"layers":[{layer}]}}"#)).unwrap();
        assert_eq!(foreign.created, None);
        assert_eq!(foreign.layer.announced_compression(), None);
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_to_manifest(
            seconds in 0i64..4_000_000_000,
            revision: Option<String>,
            size: u64,
            unpacked_size: Option<u64>,
            has_diff_id: bool,
        ) {
            let mut version = example();
            version.created = Some(Timestamp::from_second(seconds).unwrap());
            version.revision = revision;
            version.layer.size = size;
            version.layer.unpacked_size = unpacked_size;
            version.layer.diff_id = has_diff_id.then(|| Digest::sha256(b"x"));
            let bytes = version.to_manifest();
            let parsed = ComponentVersion::parse(version.component.clone(), version.version.clone(), &bytes).unwrap();
            prop_assert_eq!(parsed, version);
        }
    }
}
