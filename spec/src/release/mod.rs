//! A release of a configuration ⇄ its manifest and image configuration (README, "A release").
//! Written by `deployctl` and importers, read by agents and every verb that shows releases.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    annotation,
    component::{image_manifest, oci_descriptor, parse_time},
    digest::Digest,
    json,
    manifest::{Descriptor, Outline},
    media_type,
    name::{Channel, ConfigurationName, ReleaseNumber},
};

mod error;
mod image;
mod layer;

pub use error::ReleaseError;
pub use image::Image;
pub use layer::ReleaseLayer;

/// One immutable state of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// The configuration.
    pub configuration: ConfigurationName,
    /// Its number; images of other clients have none.
    pub number: Option<ReleaseNumber>,
    /// When it was made; images of other clients need not say.
    pub created: Option<Timestamp>,
    /// Digest of the manifest of the release that it was made from.
    pub parent: Option<Digest>,
    /// The channel that it was made for.
    pub channel: Option<Channel>,
    /// Who made it.
    pub author: Option<String>,
    /// Why it was made.
    pub reason: Option<String>,
    /// The layers, lowest first.
    pub layers: Vec<ReleaseLayer>,
    /// What the image configuration says beside its layers.
    pub image: Image,
    /// What the manifest says beside all this, such as where an imported image is from. A key
    /// that a release writes itself says nothing here.
    pub annotations: BTreeMap<String, String>,
}

/// The annotations that every release writes anew, or leaves out.
pub const WRITTEN_ANEW: [&str; 7] = [
    annotation::TITLE,
    annotation::VERSION,
    annotation::CREATED,
    annotation::AUTHORS,
    annotation::PARENT,
    annotation::CHANNEL,
    annotation::REASON,
];

/// The documents of a release, to be stored as a blob and a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    /// The image configuration, of media type `application/vnd.oci.image.config.v1+json`.
    pub config: Vec<u8>,
    /// The image manifest; its digest is the id of the release.
    pub manifest: Vec<u8>,
}

impl Release {
    /// Returns the documents of the release. Equal releases give equal bytes.
    ///
    /// # Errors
    /// [`ReleaseError::NoLayers`], [`ReleaseError::DuplicateComponent`] and
    /// [`ReleaseError::MissingDiffId`].
    pub fn to_documents(&self) -> Result<Documents, ReleaseError> {
        if self.layers.is_empty() {
            return Err(ReleaseError::NoLayers);
        }
        self.check_unique()?;
        let config = self.image_config()?;
        let config_descriptor = oci_descriptor(
            media_type::IMAGE_CONFIG,
            &Digest::sha256(&config),
            config.len() as u64,
            BTreeMap::new(),
        );
        let layers = self.layers.iter().map(layer::descriptor).collect();
        let manifest = json::canonical(&image_manifest(
            media_type::RELEASE,
            config_descriptor,
            layers,
            self.all_annotations(),
        ));
        Ok(Documents { config, manifest })
    }

    fn check_unique(&self) -> Result<(), ReleaseError> {
        let mut seen = std::collections::BTreeSet::new();
        match self
            .layers
            .iter()
            .find(|layer| !seen.insert(&layer.component))
        {
            Some(layer) => Err(ReleaseError::DuplicateComponent(layer.component.clone())),
            None => Ok(()),
        }
    }

    fn image_config(&self) -> Result<Vec<u8>, ReleaseError> {
        let diff_ids = self
            .layers
            .iter()
            .map(|layer| {
                let missing = || ReleaseError::MissingDiffId(layer.reference());
                layer
                    .diff_id
                    .as_ref()
                    .map(Digest::to_string)
                    .ok_or_else(missing)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let history: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                let mut entry = Map::new();
                entry.insert("created_by".into(), layer.reference().to_string().into());
                if let Some(created) = layer.created {
                    entry.insert("created".into(), created.to_string().into());
                }
                Value::Object(entry)
            })
            .collect();
        let mut map = self.image.properties().clone();
        if let Some(created) = self.created {
            map.insert("created".into(), created.to_string().into());
        }
        map.insert(
            "rootfs".into(),
            json!({"type": "layers", "diff_ids": diff_ids}),
        );
        map.insert("history".into(), history.into());
        Ok(json::canonical(&map))
    }

    fn all_annotations(&self) -> BTreeMap<&str, String> {
        let optional = [
            (
                annotation::VERSION,
                self.number.map(|number| number.to_string()),
            ),
            (
                annotation::CREATED,
                self.created.map(|created| created.to_string()),
            ),
            (annotation::AUTHORS, self.author.clone()),
            (
                annotation::PARENT,
                self.parent.as_ref().map(Digest::to_string),
            ),
            (
                annotation::CHANNEL,
                self.channel.as_ref().map(Channel::to_string),
            ),
            (annotation::REASON, self.reason.clone()),
        ];
        let others = self.annotations.iter();
        let mut annotations: BTreeMap<&str, String> = others
            .filter(|(key, _)| !WRITTEN_ANEW.contains(&key.as_str()))
            .map(|(key, value)| (key.as_str(), value.clone()))
            .collect();
        annotations.insert(annotation::TITLE, self.configuration.to_string());
        for (key, value) in optional {
            if let Some(value) = value {
                annotations.insert(key, value);
            }
        }
        annotations
    }

    /// Whether it was imported from an image, so that other tools made its layers: they are to be
    /// read as container engines read them.
    pub fn is_imported(&self) -> bool {
        self.annotations.contains_key(annotation::BASE_DIGEST)
    }

    /// Returns the outline of a release's manifest and the descriptor of its configuration,
    /// which has to be fetched for [`Release::parse`].
    ///
    /// # Errors
    /// [`ReleaseError::Manifest`], [`ReleaseError::Index`] and [`ReleaseError::NoConfig`].
    pub fn config_of(manifest: &[u8]) -> Result<Descriptor, ReleaseError> {
        Ok(split(manifest)?.1)
    }

    /// Returns the release that these documents describe, found under this name.
    ///
    /// Accepts any image, whoever made it: a layer that names no component is called
    /// `layer-<i>`, counted from 1, and its version is the beginning of its digest. An
    /// annotation of a release that is not valid is taken for absent, since anyone may write
    /// what he likes there; those of layers decide what is unpacked and must be valid.
    ///
    /// # Errors
    /// [`ReleaseError`], which says what does not fit.
    pub fn parse(
        configuration: ConfigurationName,
        manifest: &[u8],
        config: &[u8],
    ) -> Result<Self, ReleaseError> {
        let (outline, config_descriptor) = split(manifest)?;
        let found = Digest::of(config_descriptor.digest.algorithm(), config);
        if found != config_descriptor.digest {
            return Err(ReleaseError::ConfigDigest {
                expected: config_descriptor.digest,
                found,
            });
        }
        if outline.layers.is_empty() {
            return Err(ReleaseError::NoLayers);
        }
        let (image, diff_ids) = Image::parse(config)?;
        if !diff_ids.is_empty() && diff_ids.len() != outline.layers.len() {
            return Err(ReleaseError::LayerCount {
                diff_ids: diff_ids.len(),
                layers: outline.layers.len(),
            });
        }
        let layers = outline
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| layer::parse(index, layer, diff_ids.get(index)))
            .collect::<Result<_, _>>()?;
        let text = |key: &str| outline.annotations.get(key);
        let release = Self {
            configuration,
            number: text(annotation::VERSION).and_then(|text| text.parse().ok()),
            created: text(annotation::CREATED).and_then(|text| parse_time(text).ok()),
            parent: text(annotation::PARENT).and_then(|text| text.parse().ok()),
            channel: text(annotation::CHANNEL).and_then(|text| text.parse().ok()),
            author: text(annotation::AUTHORS).cloned(),
            reason: text(annotation::REASON).cloned(),
            layers,
            image,
            annotations: without_own(&outline.annotations),
        };
        release.check_unique()?;
        Ok(release)
    }
}

fn without_own(annotations: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut others = annotations.clone();
    others.retain(|key, _| !WRITTEN_ANEW.contains(&key.as_str()));
    others
}

fn split(manifest: &[u8]) -> Result<(Outline, Descriptor), ReleaseError> {
    let outline = Outline::parse(None, manifest)?;
    if outline.is_index() {
        return Err(ReleaseError::Index(outline.manifests.len()));
    }
    let config = outline.config.clone().ok_or(ReleaseError::NoConfig)?;
    Ok((outline, config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layer(component: &str, content: &[u8]) -> ReleaseLayer {
        ReleaseLayer {
            component: component.parse().unwrap(),
            version: "v01".parse().unwrap(),
            created: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            digest: Digest::sha256(content),
            size: content.len() as u64,
            media_type: media_type::LAYER_TAR_ZSTD.into(),
            diff_id: Some(Digest::sha256(b"tar")),
            unpacked_size: Some(1024),
        }
    }

    fn example() -> Release {
        let mut image = Image::new("amd64", "linux");
        image.set_environment(&[("A".into(), "1=2".into()), ("B".into(), String::new())]);
        Release {
            configuration: "project1".parse().unwrap(),
            number: Some(ReleaseNumber::FIRST),
            created: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            parent: Some(Digest::sha256(b"parent")),
            channel: Some(Channel::latest()),
            author: Some("ada".into()),
            reason: Some("addconf".into()),
            layers: vec![layer("code", b"code"), layer("config", b"config")],
            image,
            annotations: BTreeMap::new(),
        }
    }

    fn round_trip(release: &Release) -> Release {
        let documents = release.to_documents().unwrap();
        Release::parse(
            release.configuration.clone(),
            &documents.manifest,
            &documents.config,
        )
        .unwrap()
    }

    #[test]
    fn release_survives_a_round_trip_and_is_an_oci_image() {
        let release = example();
        assert_eq!(round_trip(&release), release);
        let documents = release.to_documents().unwrap();
        assert_eq!(documents, release.to_documents().unwrap());
        let config: oci_spec::image::ImageConfiguration =
            serde_json::from_slice(&documents.config).unwrap();
        assert_eq!(config.rootfs().diff_ids().len(), 2);
        let manifest: oci_spec::image::ImageManifest =
            serde_json::from_slice(&documents.manifest).unwrap();
        assert_eq!(manifest.layers().len(), 2);
        assert_eq!(
            release.image.environment(),
            [
                ("A".to_owned(), "1=2".to_owned()),
                ("B".to_owned(), String::new())
            ]
        );
    }

    #[test]
    fn id_covers_names_versions_order_and_environment() {
        let id = |release: &Release| Digest::sha256(&release.to_documents().unwrap().manifest);
        let mut ids = vec![id(&example())];
        let mut renamed = example();
        renamed.layers[0].component = "other".parse().unwrap();
        ids.push(id(&renamed));
        let mut relabelled = example();
        relabelled.layers[0].version = "v02".parse().unwrap();
        ids.push(id(&relabelled));
        let mut reordered = example();
        reordered.layers.reverse();
        ids.push(id(&reordered));
        let mut environment = example();
        environment.image.set_environment(&[]);
        ids.push(id(&environment));
        let mut annotated = example();
        let key = annotation::BASE_NAME.to_owned();
        annotated.annotations.insert(key, "docker://a".into());
        ids.push(id(&annotated));
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn a_release_without_other_annotations_has_the_bytes_it_always_had() {
        let documents = example().to_documents().unwrap();
        let expected = "65bd132819e75abcfc8bd064d0235738dd99d32743053a9f53434d9930b1ee0a";
        assert_eq!(Digest::sha256(&documents.manifest).hex(), expected);
    }

    #[test]
    fn annotations_of_an_image_never_stand_for_those_of_a_release() {
        let mut release = example();
        release.reason = None;
        let bytes = release.to_documents().unwrap().manifest;
        for key in WRITTEN_ANEW {
            release.annotations.insert(key.to_owned(), "other".into());
        }
        assert_eq!(release.to_documents().unwrap().manifest, bytes);
        assert_eq!(round_trip(&release).annotations, BTreeMap::new());
    }

    #[test]
    fn image_of_another_client_is_a_release_and_keeps_its_configuration() {
        let config = br#"{"architecture":"arm64","os":"linux","config":{"Cmd":["/run"],"User":"7"},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"history":[{"comment":"x"}]}"#;
        let manifest = json::canonical(&image_manifest(
            media_type::RELEASE,
            oci_descriptor(
                media_type::IMAGE_CONFIG,
                &Digest::sha256(config),
                config.len() as u64,
                BTreeMap::new(),
            ),
            vec![oci_descriptor(
                media_type::LAYER_TAR_GZIP,
                &Digest::sha256(b"l"),
                1,
                BTreeMap::new(),
            )],
            BTreeMap::new(),
        ));
        let release = Release::parse("p".parse().unwrap(), &manifest, config).unwrap();
        assert_eq!(
            release.layers[0].reference().to_string(),
            format!("layer-1:{}", Digest::sha256(b"l").short())
        );
        assert_eq!(release.layers[0].diff_id, Some(Digest::sha256(b"")));
        assert_eq!(release.number, None);
        assert_eq!(round_trip(&release), release);
        assert_eq!(release.image.properties()["config"]["User"], "7");
    }

    #[test]
    fn documents_that_do_not_fit_are_refused() {
        let release = example();
        let documents = release.to_documents().unwrap();
        let parse = |manifest: &[u8], config: &[u8]| {
            Release::parse("p".parse().unwrap(), manifest, config).unwrap_err()
        };
        assert!(matches!(
            parse(&documents.manifest, b"{}"),
            ReleaseError::ConfigDigest { .. }
        ));
        assert!(matches!(
            parse(br#"{"manifests":[]}"#, b"{}"),
            ReleaseError::Index(0)
        ));
        assert!(matches!(
            parse(br#"{"layers":[]}"#, b"{}"),
            ReleaseError::NoConfig
        ));

        let mut twice = example();
        twice.layers[1].component = "code".parse().unwrap();
        assert!(matches!(
            twice.to_documents(),
            Err(ReleaseError::DuplicateComponent(_))
        ));
        let mut unknown = example();
        unknown.layers[0].diff_id = None;
        assert!(matches!(
            unknown.to_documents(),
            Err(ReleaseError::MissingDiffId(_))
        ));
        let mut empty = example();
        empty.layers.clear();
        assert!(matches!(empty.to_documents(), Err(ReleaseError::NoLayers)));
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_to_documents(
            number in proptest::option::of(1u64..),
            author: Option<String>,
            reason: Option<String>,
            sizes in proptest::collection::vec(any::<u64>(), 1..5),
            annotations in proptest::collection::btree_map("[a-z]{1,8}", ".{0,8}", 0..4),
        ) {
            let mut release = example();
            release.annotations = annotations;
            release.number = number.and_then(ReleaseNumber::new);
            release.author = author;
            release.reason = reason;
            release.layers = sizes
                .iter()
                .enumerate()
                .map(|(index, size)| ReleaseLayer { size: *size, ..layer(&format!("c{index}"), b"x") })
                .collect();
            prop_assert_eq!(round_trip(&release), release);
        }

        #[test]
        fn parsing_anything_never_panics(manifest: Vec<u8>, config: Vec<u8>) {
            let _ = Release::parse("p".parse().unwrap(), &manifest, &config);
        }
    }
}
