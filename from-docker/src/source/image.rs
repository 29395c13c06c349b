//! An image out of its manifest and its configuration, the same wherever these lie. Called by the
//! sources.

use std::collections::BTreeMap;

use deploy_spec::{
    Descriptor, Digest, Outline, annotation,
    component::Layer,
    manifest::ManifestError,
    media_type::{self, Compression},
    release::{Image, WRITTEN_ANEW},
};
use deployctl::client::Content;
use serde_json::Value;

use super::{SourceImage, SourceLayer, store::Store};
use crate::{
    ImportError,
    platform::{Platform, offered},
};

/// How deep indexes of indexes may be nested.
const DEPTH_MAX: usize = 8;
/// The configuration of Docker's images, which is what OCI made its own of.
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Which platform's image is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This one and no other.
    Exactly(Platform),
    /// This one where there are several; otherwise the one that there is.
    Preferably(Platform),
}

impl Wanted {
    fn platform(&self) -> &Platform {
        match self {
            Self::Exactly(platform) | Self::Preferably(platform) => platform,
        }
    }
}

/// What is said of an image outside of it.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// The reference that it was found by.
    pub(super) origin: String,
    /// What it is called where it comes from.
    pub(super) name: Option<String>,
}

/// An image manifest, found through whatever indexes stand before it.
pub(super) struct Found {
    pub(super) digest: Digest,
    pub(super) outline: Outline,
}

/// Returns the image manifest that a descriptor leads to.
pub(super) async fn follow(
    store: &Store,
    descriptor: &Descriptor,
    wanted: &Wanted,
    image: &str,
) -> Result<Found, ImportError> {
    let mut descriptor = descriptor.clone();
    for _ in 0..=DEPTH_MAX {
        let found = store.manifest(&descriptor.digest).await?;
        let (media_type, bytes) = found.ok_or_else(|| ImportError::NotAnImage {
            image: image.to_owned(),
            reason: format!("its manifest `{}` is not there", descriptor.digest),
        })?;
        let outline = outline(media_type.as_deref(), &bytes, image)?;
        if !outline.is_index() {
            return Ok(Found {
                digest: descriptor.digest,
                outline,
            });
        }
        descriptor = choose(&outline.manifests, wanted, image)?.clone();
    }
    Err(ImportError::TooDeep {
        image: image.to_owned(),
        limit: DEPTH_MAX,
    })
}

/// Returns the manifest of the wanted platform.
pub(super) fn choose<'a>(
    manifests: &'a [Descriptor],
    wanted: &Wanted,
    image: &str,
) -> Result<&'a Descriptor, ImportError> {
    let chosen = wanted.platform().choose(manifests);
    chosen.ok_or_else(|| ImportError::NoSuchPlatform {
        image: image.to_owned(),
        wanted: wanted.platform().to_string(),
        there: offered(manifests),
    })
}

fn outline(media_type: Option<&str>, bytes: &[u8], image: &str) -> Result<Outline, ImportError> {
    let schema_one = || ImportError::SchemaOne {
        image: image.to_owned(),
    };
    if media_type.is_some_and(|text| text.contains("docker.distribution.manifest.v1")) {
        return Err(schema_one());
    }
    Outline::parse(media_type, bytes).map_err(|error| match error {
        ManifestError::SchemaVersion(1) => schema_one(),
        error => ImportError::NotAnImage {
            image: image.to_owned(),
            reason: error.to_string(),
        },
    })
}

/// Returns the image of a manifest that is in a store.
pub(super) async fn load(
    store: &Store,
    found: Found,
    wanted: &Wanted,
    said: Said,
) -> Result<SourceImage, ImportError> {
    let image = said.origin.clone();
    let not_an_image = |reason: String| ImportError::NotAnImage {
        image: image.clone(),
        reason,
    };
    let Found { digest, outline } = found;
    let config = outline.config.as_ref();
    let config = config.ok_or_else(|| not_an_image("its manifest has no configuration".into()))?;
    if ![media_type::IMAGE_CONFIG, DOCKER_CONFIG].contains(&config.media_type.as_str()) {
        let reason = format!(
            "its configuration is `{}`, not one of an image",
            config.media_type
        );
        return Err(not_an_image(reason));
    }
    let bytes = store.document(&config.digest).await?;
    let bytes = bytes.ok_or_else(|| {
        not_an_image(format!(
            "its configuration `{}` is not there",
            config.digest
        ))
    })?;
    let mut layers = Vec::with_capacity(outline.layers.len());
    for (index, layer) in outline.layers.iter().enumerate() {
        let facts = facts(layer, index + 1, &image)?;
        let content = store.content(layer).await?;
        let content = content.ok_or_else(|| {
            not_an_image(format!(
                "its layer {} (`{}`) is not there",
                index + 1,
                layer.digest
            ))
        })?;
        if content.size() != layer.size {
            return Err(not_an_image(format!(
                "its layer {} has {} bytes, its manifest says {}",
                index + 1,
                content.size(),
                layer.size
            )));
        }
        layers.push((facts, content));
    }
    assemble(said, digest, outline.annotations, &bytes, layers, wanted)
}

/// Returns what a manifest says of a layer, in OCI's words.
fn facts(layer: &Descriptor, position: usize, image: &str) -> Result<Layer, ImportError> {
    let media_type = layer.media_type.as_str();
    if layer.urls.as_ref().is_some_and(|urls| !urls.is_empty())
        || media_type.contains(".nondistributable.")
        || media_type.contains(".foreign.")
    {
        return Err(ImportError::ForeignLayer {
            image: image.to_owned(),
            position,
            digest: layer.digest.clone(),
        });
    }
    let compression = Compression::of_layer(media_type);
    let compression = compression.ok_or_else(|| ImportError::NotAnImage {
        image: image.to_owned(),
        reason: format!(
            "its layer {position} is `{}`, which is no layer that is known",
            media_type.escape_debug()
        ),
    })?;
    Ok(Layer {
        digest: layer.digest.clone(),
        size: layer.size,
        media_type: compression.layer_media_type().to_owned(),
        diff_id: None,
        unpacked_size: (compression == Compression::None).then_some(layer.size),
    })
}

/// Returns the image of these layers, lowest first, whose uncompressed digests stand in the
/// configuration. `digest` is that of its manifest, or of the configuration where it has none.
pub(super) fn assemble(
    said: Said,
    digest: Digest,
    annotations: BTreeMap<String, String>,
    config: &[u8],
    layers: Vec<(Layer, Content)>,
    wanted: &Wanted,
) -> Result<SourceImage, ImportError> {
    let not_an_image = |reason: String| ImportError::NotAnImage {
        image: said.origin.clone(),
        reason,
    };
    let (image, diff_ids) =
        Image::parse(config).map_err(|error| not_an_image(error.to_string()))?;
    if layers.is_empty() {
        return Err(not_an_image("it has no layers".into()));
    }
    if diff_ids.len() != layers.len() {
        return Err(not_an_image(format!(
            "its configuration lists {} layers, and it has {}",
            diff_ids.len(),
            layers.len()
        )));
    }
    if let (Wanted::Exactly(wanted), Some(found)) =
        (wanted, Platform::of_config(image.properties()))
        && !wanted.runs(&found)
    {
        return Err(ImportError::NoSuchPlatform {
            image: said.origin,
            wanted: wanted.to_string(),
            there: vec![found.to_string()],
        });
    }
    let layers = layers.into_iter().zip(diff_ids);
    let layers = layers.map(|((layer, content), diff_id)| SourceLayer {
        layer: Layer {
            diff_id: Some(diff_id),
            ..layer
        },
        content,
    });
    Ok(SourceImage {
        layers: layers.collect(),
        annotations: origin(annotations, &said.origin, &digest, config),
        name: said.name,
        origin: said.origin,
        digest,
        image,
    })
}

/// Returns an image's annotations as those of a release: what a release says itself of these is
/// kept under other keys, and where the image is from is added.
fn origin(
    annotations: BTreeMap<String, String>,
    name: &str,
    digest: &Digest,
    config: &[u8],
) -> BTreeMap<String, String> {
    let kept = |key: String| match key.as_str() {
        annotation::TITLE => Some(annotation::ORIGIN_TITLE.to_owned()),
        annotation::VERSION => Some(annotation::ORIGIN_VERSION.to_owned()),
        annotation::AUTHORS => Some(annotation::ORIGIN_AUTHORS.to_owned()),
        annotation::CREATED => Some(annotation::ORIGIN_CREATED.to_owned()),
        annotation::BASE_NAME => Some(annotation::ORIGIN_BASE_NAME.to_owned()),
        annotation::BASE_DIGEST => Some(annotation::ORIGIN_BASE_DIGEST.to_owned()),
        // Of a release that this image was.
        other if WRITTEN_ANEW.contains(&other) => None,
        _ => Some(key),
    };
    let annotations = annotations.into_iter();
    let mut annotations: BTreeMap<String, String> = annotations
        .filter_map(|(key, value)| Some((kept(key)?, value)))
        .collect();
    let config: Option<Value> = serde_json::from_slice(config).ok();
    if let Some(created) = config
        .as_ref()
        .and_then(|config| config["created"].as_str())
    {
        annotations.insert(annotation::ORIGIN_CREATED.to_owned(), created.to_owned());
    }
    annotations.insert(annotation::BASE_NAME.to_owned(), name.to_owned());
    annotations.insert(annotation::BASE_DIGEST.to_owned(), digest.to_string());
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_stay_and_make_room_for_those_of_a_release() {
        let annotations = [
            (annotation::TITLE, "Title"),
            (annotation::VERSION, "1.2"),
            (annotation::CREATED, "then"),
            (annotation::PARENT, "sha256:…"),
            (annotation::BASE_NAME, "c/d:2"),
            (annotation::BASE_DIGEST, "sha256:below"),
            ("org.example.a", "b"),
        ];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let digest = Digest::sha256(b"");
        let config = br#"{"created":"2026-01-02T03:04:05Z"}"#;
        let made = origin(annotations.into(), "docker://a/b:1", &digest, config);
        let digest = digest.to_string();
        let expected = [
            (annotation::ORIGIN_BASE_DIGEST, "sha256:below"),
            (annotation::ORIGIN_BASE_NAME, "c/d:2"),
            (annotation::ORIGIN_CREATED, "2026-01-02T03:04:05Z"),
            (annotation::ORIGIN_TITLE, "Title"),
            (annotation::ORIGIN_VERSION, "1.2"),
            ("org.example.a", "b"),
            (annotation::BASE_DIGEST, &digest),
            (annotation::BASE_NAME, "docker://a/b:1"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(made, BTreeMap::from(expected));
    }

    #[test]
    fn layers_get_the_types_of_oci_and_foreign_ones_are_refused() {
        let layer = |media_type: &str| Descriptor::new(media_type, Digest::sha256(b""), 7);
        let docker = layer("application/vnd.docker.image.rootfs.diff.tar.gzip");
        assert_eq!(
            facts(&docker, 1, "a").unwrap().media_type,
            media_type::LAYER_TAR_GZIP
        );
        let plain = facts(&layer(media_type::LAYER_TAR), 1, "a").unwrap();
        assert_eq!(plain.unpacked_size, Some(7));
        let mut elsewhere = layer(media_type::LAYER_TAR);
        elsewhere.urls = Some(vec!["https://a.example/layer".into()]);
        for foreign in [
            layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            layer("application/vnd.oci.image.layer.nondistributable.v1.tar"),
            elsewhere,
        ] {
            let error = facts(&foreign, 3, "a").unwrap_err();
            assert!(
                error.to_string().starts_with("layer 3 of image `a`"),
                "{error}"
            );
        }
        assert!(matches!(
            facts(&layer("text/plain"), 1, "a"),
            Err(ImportError::NotAnImage { .. })
        ));
    }

    #[test]
    fn schema_one_is_called_by_its_name() {
        let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        for (media_type, bytes) in [
            (Some(signed), &b"{}"[..]),
            (None, br#"{"schemaVersion":1,"fsLayers":[]}"#),
        ] {
            let error = outline(media_type, bytes, "a").unwrap_err();
            assert!(matches!(error, ImportError::SchemaOne { .. }), "{error}");
        }
    }
}
