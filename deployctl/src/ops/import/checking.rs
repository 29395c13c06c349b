//! What has to be certain of a layer before its last bytes are sent, and what is known of it then.

use std::sync::{Arc, OnceLock};

use deploy_spec::{Algorithm, Digest, component::Layer};

use crate::{
    archive::{self, ArchiveError, Depth, Known, Uncompressed},
    client::Check,
};

/// Up to this size a compressed layer is looked at to its end: that takes no time to speak of, and
/// an image whose layers are not what it says seldom has large ones only.
const SMALL: u64 = 16 * 1024 * 1024;

/// Returns the check that bytes are a layer, and where it leaves what it found.
pub(super) fn check(layer: Layer, depth: Depth) -> (Check, Arc<OnceLock<Known>>) {
    let depth = match layer.size <= SMALL || layer.diff_id.is_none() {
        true => Depth::End,
        false => depth,
    };
    let found = Arc::new(OnceLock::new());
    let noted = found.clone();
    let check = Check::new(move |passing| {
        let diff_id = layer.diff_id.as_ref();
        let diff_id = diff_id.map_or(Algorithm::Sha256, Digest::algorithm);
        let known = archive::inspect_known(passing, layer.digest.algorithm(), diff_id, depth)?;
        verify(&layer, &known)?;
        // Nobody else sets it.
        drop(noted.set(known));
        Ok(())
    });
    (check, found)
}

fn verify(layer: &Layer, known: &Known) -> Result<(), ArchiveError> {
    if known.digest != layer.digest {
        return Err(ArchiveError::Digest {
            expected: layer.digest.clone(),
            found: known.digest.clone(),
        });
    }
    match (&layer.diff_id, &known.uncompressed) {
        (Some(expected), Some(Uncompressed { diff_id, .. })) if expected != diff_id => {
            Err(ArchiveError::DiffId {
                expected: expected.clone(),
                found: diff_id.clone(),
            })
        }
        _ => Ok(()),
    }
}

/// Returns the layer as its component version is to describe it, to any other image that comes to
/// use it: what the image only says of its uncompressed bytes is not repeated.
pub(super) fn proved(layer: Layer, known: Option<Known>) -> Layer {
    // Its bytes say how it is compressed, whatever the image said.
    let media_type = known.as_ref().map_or(layer.media_type, |known| {
        known.compression.layer_media_type().to_owned()
    });
    // The same bytes where they are not compressed.
    let plain = layer.diff_id.filter(|diff_id| *diff_id == layer.digest);
    let (diff_id, unpacked_size) = match known.and_then(|known| known.uncompressed) {
        Some(found) => (Some(found.diff_id), Some(found.size)),
        None => (plain.clone(), plain.map(|_| layer.size)),
    };
    Layer {
        media_type,
        diff_id,
        unpacked_size,
        ..layer
    }
}
