//! Content to push: blobs of random bytes, image manifests, indexes.
//! Everything is new in each run, so that nothing an earlier run left behind answers for it.

use bytes::Bytes;
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::digest::{self, Algorithm};

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Bytes and their digest.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) bytes: Bytes,
    pub(crate) digest: String,
}

impl Blob {
    /// These bytes, by their sha256.
    pub(crate) fn of(bytes: impl Into<Bytes>) -> Self {
        Self::by(Algorithm::Sha256, bytes)
    }

    /// These bytes, by a digest of `algorithm`.
    pub(crate) fn by(algorithm: Algorithm, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            digest: algorithm.of(&bytes),
            bytes,
        }
    }

    /// `length` bytes that nobody has pushed before.
    pub(crate) fn random(length: usize) -> Self {
        Self::of(random_bytes(length))
    }

    /// The descriptor with which a manifest refers to it.
    pub(crate) fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }

    /// `count` pieces that make up the whole, all but the last of one length.
    pub(crate) fn pieces(&self, length: usize) -> Vec<Bytes> {
        (0..self.bytes.len())
            .step_by(length.max(1))
            .map(|start| {
                let end = (start + length).min(self.bytes.len());
                self.bytes.slice(start..end)
            })
            .collect()
    }
}

/// A manifest's exact bytes, with their type and digest.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) bytes: Bytes,
    pub(crate) media_type: String,
    pub(crate) digest: String,
}

impl Manifest {
    /// These bytes as they are.
    pub(crate) fn raw(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        Self::by(Algorithm::Sha256, media_type, bytes)
    }

    /// These bytes, by a digest of `algorithm`.
    pub(crate) fn by(algorithm: Algorithm, media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            digest: algorithm.of(&bytes),
            media_type: media_type.to_owned(),
            bytes,
        }
    }

    /// A manifest of the type that its `mediaType` names.
    pub(crate) fn of(value: &Value) -> Self {
        let media_type = value["mediaType"].as_str().unwrap_or(IMAGE).to_owned();
        Self::raw(&media_type, value.to_string())
    }

    /// The descriptor with which an index or a subject refers to it.
    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// An image manifest over blobs, unique by an annotation.
pub(crate) fn image(config: &Blob, layers: &[Blob]) -> Value {
    let layers: Vec<Value> = layers.iter().map(|blob| blob.descriptor(LAYER)).collect();
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": config.descriptor(IMAGE_CONFIG),
        "layers": layers,
        "annotations": {"org.example.unique": unique()},
    })
}

/// An index over manifests, unique by an annotation.
pub(crate) fn index(manifests: &[Value]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": manifests,
        "annotations": {"org.example.unique": unique()},
    })
}

/// An image config that no other image has.
pub(crate) fn config() -> Blob {
    Blob::of(
        json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Labels": {"org.example.unique": unique()}},
        })
        .to_string(),
    )
}

/// The blob `{}` of the image specification.
pub(crate) fn empty() -> Blob {
    Blob::of(Bytes::from_static(b"{}"))
}

/// The digest of content that nobody has pushed.
pub(crate) fn unknown_digest() -> String {
    digest::sha256(&random_bytes(32))
}

/// A word that was not used before.
pub(crate) fn unique() -> String {
    hex::encode(rand::random::<[u8; 8]>())
}

/// `length` random bytes.
pub(crate) fn random_bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::rng().fill(&mut bytes[..]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_whole() {
        let blob = Blob::random(10);
        let pieces = blob.pieces(4);
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces.concat(), blob.bytes);
    }

    #[test]
    fn content_is_new_each_time() {
        assert_ne!(config().digest, config().digest);
        assert_ne!(Blob::random(8).digest, Blob::random(8).digest);
    }
}
