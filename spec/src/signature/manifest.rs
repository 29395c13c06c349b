//! A signature ⇄ the manifest by which it is found: an artifact that refers to the release's
//! manifest (image-spec, "Guidelines for Artifact Usage"), with the two files of the signature.

use std::collections::BTreeMap;

use super::{ARMORED_MAX, STATEMENT_MAX, Signature, Statement};
use crate::{
    annotation,
    component::{EMPTY_CONFIG, image_manifest, oci_descriptor},
    digest::Digest,
    json,
    manifest::{Descriptor, ManifestError, Outline},
    media_type,
};

/// Under which names clients such as `oras` write the two files.
const STATEMENT_TITLE: &str = "statement.json";
const ARMORED_TITLE: &str = "statement.json.sig";

/// Why a manifest is not that of a signature.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// Not a manifest at all.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Something else that refers to a release.
    #[error("it is no signature")]
    OtherArtifact,
    /// It refers to nothing.
    #[error("it is the signature of nothing")]
    NoSubject,
    /// A file is missing, or there is more than one of a kind.
    #[error("it does not have one layer of type `{0}`")]
    Layer(&'static str),
    /// A file is larger than any signature's.
    #[error("its layer `{digest}` has {size} bytes, and at most {limit} are read")]
    TooLarge {
        /// Which.
        digest: Digest,
        /// What the manifest says.
        size: u64,
        /// The limit.
        limit: u64,
    },
}

/// What the manifest of a signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureManifest {
    /// The manifest of the release.
    pub subject: Digest,
    /// The statement, of at most [`STATEMENT_MAX`] bytes.
    pub statement: Descriptor,
    /// The armored signature, of at most [`ARMORED_MAX`] bytes.
    pub armored: Descriptor,
}

/// The documents of a signature, to be stored as blobs and a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    /// The OCI empty document, the two files.
    pub blobs: [Vec<u8>; 3],
    /// The manifest.
    pub manifest: Vec<u8>,
}

impl SignatureManifest {
    /// Returns the documents of a signature of the release that this descriptor tells of. Equal
    /// signatures give equal bytes.
    pub fn documents(
        subject: &Descriptor,
        statement: &Statement,
        signature: &Signature,
    ) -> Documents {
        let layer = |media_type: &str, title: &str, bytes: &[u8]| {
            let annotations = BTreeMap::from([(annotation::TITLE, title.to_owned())]);
            let digest = Digest::sha256(bytes);
            oci_descriptor(media_type, &digest, bytes.len() as u64, annotations)
        };
        let empty = &Digest::sha256(EMPTY_CONFIG);
        let size = EMPTY_CONFIG.len() as u64;
        let config = oci_descriptor(media_type::EMPTY, empty, size, BTreeMap::new());
        let layers = vec![
            layer(media_type::STATEMENT, STATEMENT_TITLE, &signature.statement),
            layer(media_type::SSH_SIGNATURE, ARMORED_TITLE, &signature.armored),
        ];
        let annotations = BTreeMap::from([(annotation::CREATED, statement.time.to_string())]);
        let mut manifest = image_manifest(media_type::SIGNATURE, config, layers, annotations);
        manifest.set_subject(Some(oci_descriptor(
            &subject.media_type,
            &subject.digest,
            subject.size,
            BTreeMap::new(),
        )));
        Documents {
            blobs: [
                EMPTY_CONFIG.to_vec(),
                signature.statement.clone(),
                signature.armored.clone(),
            ],
            manifest: json::canonical(&manifest),
        }
    }

    /// Returns what a manifest says.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn parse(manifest: &[u8]) -> Result<Self, SignatureError> {
        let outline = Outline::parse(None, manifest)?;
        if outline.artifact_type.as_deref() != Some(media_type::SIGNATURE) {
            return Err(SignatureError::OtherArtifact);
        }
        let subject = outline.subject.ok_or(SignatureError::NoSubject)?;
        let only = |media_type: &'static str, limit: u64| {
            let mut all = outline.layers.iter();
            let mut next = || all.find(|layer| layer.media_type == media_type);
            let (Some(layer), None) = (next(), next()) else {
                return Err(SignatureError::Layer(media_type));
            };
            if layer.size > limit {
                return Err(SignatureError::TooLarge {
                    digest: layer.digest.clone(),
                    size: layer.size,
                    limit,
                });
            }
            Ok(layer.clone())
        };
        Ok(Self {
            subject: subject.digest,
            statement: only(media_type::STATEMENT, STATEMENT_MAX)?,
            armored: only(media_type::SSH_SIGNATURE, ARMORED_MAX)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::signature::Purpose;

    fn example() -> Documents {
        let release = Digest::sha256(b"release");
        let statement = Statement {
            repository: "configs/project1".parse().unwrap(),
            release: release.clone(),
            number: Some(crate::ReleaseNumber::FIRST),
            purpose: Purpose::Release,
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        let signature = Signature {
            statement: statement.to_bytes(),
            armored: b"-----BEGIN SSH SIGNATURE-----".to_vec(),
        };
        let subject = Descriptor::new(media_type::IMAGE_MANIFEST, release, 7);
        SignatureManifest::documents(&subject, &statement, &signature)
    }

    #[test]
    fn manifest_is_an_artifact_that_refers_to_the_release() {
        let documents = example();
        let manifest = SignatureManifest::parse(&documents.manifest).unwrap();
        assert_eq!(manifest.subject, Digest::sha256(b"release"));
        assert_eq!(
            manifest.statement.digest,
            Digest::sha256(&documents.blobs[1])
        );
        assert_eq!(manifest.armored.digest, Digest::sha256(&documents.blobs[2]));
        let value: Value = serde_json::from_slice(&documents.manifest).unwrap();
        assert_eq!(value["artifactType"], media_type::SIGNATURE);
        assert_eq!(value["subject"]["size"], 7);
        assert_eq!(value["config"]["mediaType"], media_type::EMPTY);
        let title = |layer: usize| &value["layers"][layer]["annotations"][annotation::TITLE];
        assert_eq!(title(0), "statement.json");
        assert_eq!(title(1), "statement.json.sig");
        assert_eq!(example(), documents);
    }

    #[test]
    fn other_manifests_are_refused() {
        let refused = |change: &dyn Fn(&mut Value), expected: &str| {
            let mut value: Value = serde_json::from_slice(&example().manifest).unwrap();
            change(&mut value);
            let error = SignatureManifest::parse(value.to_string().as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        refused(
            &|value| value["artifactType"] = "a/b".into(),
            "no signature",
        );
        refused(&|value| value["subject"] = Value::Null, "of nothing");
        refused(
            &|value| value["layers"][0]["mediaType"] = "a/b".into(),
            "statement.v1",
        );
        refused(
            &|value| value["layers"][1] = value["layers"][0].clone(),
            "statement.v1",
        );
        refused(
            &|value| value["layers"][1]["size"] = 99_999.into(),
            "99999 bytes",
        );
        refused(
            &|value| {
                value["layers"].as_array_mut().unwrap().pop();
            },
            "ssh-signature",
        );
        refused(&|value| value["layers"] = 1.into(), "not valid");
    }

    proptest! {
        #[test]
        fn parsing_anything_never_panics(manifest: Vec<u8>) {
            let _ = SignatureManifest::parse(&manifest);
        }
    }
}
