//! A layer of a release ⇄ its descriptor. Used by `release`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::ReleaseError;
use crate::{
    annotation,
    component::{oci_descriptor, parse_annotation, parse_diff_id, parse_unpacked_size},
    digest::Digest,
    manifest::Descriptor,
    name::{ComponentName, LayerReference, Version},
};

/// A component version as part of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseLayer {
    /// The component.
    pub component: ComponentName,
    /// Its version.
    pub version: Version,
    /// When that version was made.
    pub created: Option<Timestamp>,
    /// Digest of the archive as stored.
    pub digest: Digest,
    /// Size of the archive as stored, in bytes.
    pub size: u64,
    /// Media type of the archive, which tells its compression.
    pub media_type: String,
    /// Digest of the uncompressed tar archive; known in every release that we make.
    pub diff_id: Option<Digest>,
    /// Size of the uncompressed tar archive in bytes.
    pub unpacked_size: Option<u64>,
}

impl ReleaseLayer {
    /// Returns which component version this is.
    pub fn reference(&self) -> LayerReference {
        LayerReference {
            component: self.component.clone(),
            version: self.version.clone(),
        }
    }
}

/// Returns the descriptor of a layer, with all that is known of it.
pub(super) fn descriptor(layer: &ReleaseLayer) -> oci_spec::image::Descriptor {
    let optional = [
        (
            annotation::COMPONENT_CREATED,
            layer.created.map(|created| created.to_string()),
        ),
        (
            annotation::DIFF_ID,
            layer.diff_id.as_ref().map(Digest::to_string),
        ),
        (
            annotation::UNPACKED_SIZE,
            layer.unpacked_size.map(|size| size.to_string()),
        ),
    ];
    let mut annotations = BTreeMap::from([
        (annotation::COMPONENT, layer.component.to_string()),
        (annotation::COMPONENT_VERSION, layer.version.to_string()),
    ]);
    for (key, value) in optional {
        if let Some(value) = value {
            annotations.insert(key, value);
        }
    }
    oci_descriptor(&layer.media_type, &layer.digest, layer.size, annotations)
}

/// Returns the layer at this index, whose diff id the image configuration may know.
pub(super) fn parse(
    index: usize,
    layer: &Descriptor,
    in_config: Option<&Digest>,
) -> Result<ReleaseLayer, ReleaseError> {
    let position = index + 1;
    let annotated = parse_diff_id(layer)?;
    if annotated.is_some() && in_config.is_some() && annotated.as_ref() != in_config {
        return Err(ReleaseError::DiffIdMismatch(position));
    }
    let component = parse_annotation(layer, annotation::COMPONENT, "no component name")?;
    let version = parse_annotation(layer, annotation::COMPONENT_VERSION, "no version")?;
    Ok(ReleaseLayer {
        component: component.unwrap_or_else(|| {
            let name = format!("layer-{position}");
            name.parse().expect("it fits the grammar")
        }),
        version: version.unwrap_or_else(|| {
            let short = layer.digest.short();
            short.parse().expect("hexadecimal digits fit the grammar")
        }),
        created: parse_annotation(layer, annotation::COMPONENT_CREATED, "no RFC 3339 time")?,
        diff_id: annotated.or_else(|| in_config.cloned()),
        unpacked_size: parse_unpacked_size(layer)?,
        digest: layer.digest.clone(),
        size: layer.size,
        media_type: layer.media_type.clone(),
    })
}
