//! Layers compressed otherwise, each into a file without a name. Called by `import`.

use std::{
    io,
    path::{Path, PathBuf},
};

use deploy_spec::{component::Layer, media_type::Compression};
use deployctl::{
    archive::{self, Recompressed},
    client::{Content, Part},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{ImportError, error::failed, source::SourceLayer};

/// How many layers are compressed at once: each takes a processor.
const COMPRESSED_AT_ONCE: usize = 2;

/// Compresses layers anew, as far as they are not compressed that way.
pub(crate) async fn recompress(
    layers: Vec<SourceLayer>,
    compression: Compression,
    scratch: &Path,
) -> Result<Vec<SourceLayer>, ImportError> {
    let layers = layers.into_iter().enumerate();
    stream::iter(layers)
        .map(|(index, layer)| recompress_layer(index + 1, layer, compression, scratch.to_owned()))
        .buffered(COMPRESSED_AT_ONCE)
        .try_collect()
        .await
}

async fn recompress_layer(
    position: usize,
    source: SourceLayer,
    compression: Compression,
    scratch: PathBuf,
) -> Result<SourceLayer, ImportError> {
    if source.layer.announced_compression() == Some(compression) {
        return Ok(source);
    }
    let refused = move |source| ImportError::Recompress { position, source };
    let reader = source.reader();
    let algorithm = source.layer.digest.algorithm();
    let made = tokio::task::spawn_blocking(move || {
        let file = tempfile::tempfile_in(&scratch).map_err(failed("create a file in", &scratch))?;
        let output = io::BufWriter::with_capacity(256 * 1024, &file);
        let made = archive::recompress(reader, algorithm, output, compression);
        Ok::<_, ImportError>((made.map_err(refused)?, file, scratch))
    });
    let (made, file, scratch) = made.await??;
    check(&source.layer, &made).map_err(refused)?;
    let Recompressed {
        digest,
        size,
        unpacked_size,
        ..
    } = made;
    Ok(SourceLayer {
        layer: Layer {
            digest,
            size,
            media_type: compression.layer_media_type().to_owned(),
            diff_id: source.layer.diff_id,
            unpacked_size: Some(unpacked_size),
        },
        content: Content::Part(Part::whole(file, scratch, size)),
    })
}

/// What was compressed anew has to be what the image says; its uncompressed bytes are checked when
/// it is sent.
fn check(layer: &Layer, made: &Recompressed) -> Result<(), archive::ArchiveError> {
    match made.source == layer.digest {
        true => Ok(()),
        false => Err(archive::ArchiveError::Digest {
            expected: layer.digest.clone(),
            found: made.source.clone(),
        }),
    }
}
