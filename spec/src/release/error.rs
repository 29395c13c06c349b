//! Why documents are no release. Returned by `release`.

use crate::{
    component::ComponentError,
    digest::Digest,
    manifest::ManifestError,
    name::{ComponentName, LayerReference},
};

/// Why documents are no release, or a release cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Not a manifest at all.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An index, and so an image of several platforms.
    #[error("it is an index of {0} manifests, not one release")]
    Index(usize),
    /// No configuration, and so no image.
    #[error("its manifest has no configuration blob, so it is no release")]
    NoConfig,
    /// No layers, and so nothing to deploy.
    #[error("it has no layers")]
    NoLayers,
    /// The configuration's bytes are not those that the manifest names.
    #[error("its configuration has digest `{found}`, its manifest says `{expected}`")]
    ConfigDigest {
        /// What the manifest says.
        expected: Digest,
        /// What was given.
        found: Digest,
    },
    /// The configuration is not JSON, or a property has the wrong type.
    #[error("its image configuration is not valid: {0}")]
    Config(#[source] serde_json::Error),
    /// The configuration and the manifest count layers differently.
    #[error("its image configuration lists {diff_ids} layers, its manifest {layers}")]
    LayerCount {
        /// In the configuration.
        diff_ids: usize,
        /// In the manifest.
        layers: usize,
    },
    /// The manifest's annotation and the configuration disagree on a layer.
    #[error("layer {0}: its annotation and the image configuration name different diff ids")]
    DiffIdMismatch(usize),
    /// A layer whose uncompressed digest is not known cannot be part of an image.
    #[error("layer `{0}`: the digest of the uncompressed archive is not known")]
    MissingDiffId(LayerReference),
    /// An annotation that cannot be read.
    #[error(transparent)]
    Annotation(#[from] ComponentError),
    /// One component twice.
    #[error("component `{0}` occurs twice")]
    DuplicateComponent(ComponentName),
}
