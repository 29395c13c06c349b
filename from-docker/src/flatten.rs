//! The layers of an image as one, computed as hosts do it. Called by `import`.

use std::{fs::File, io, path::Path};

use deploy_spec::{component::Layer, media_type::Compression};
use deployctl::{
    archive::{self, Dialect, FlattenOptions, LayerSource},
    client::{Content, Part},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tempfile::TempDir;

use crate::{ImportError, error::failed, source::SourceLayer};

/// How many layers are read at once.
const READ_AT_ONCE: usize = 4;
/// How much is written at a time.
const BUFFER: usize = 256 * 1024;

/// What layers came to together.
pub(crate) struct Flat {
    /// The only layer.
    pub(crate) layer: SourceLayer,
    /// Devices and named pipes that are not in it.
    pub(crate) left_out: u64,
}

/// Makes one layer of all. Each is read once, into `scratch`, and verified before anything comes of
/// it; the result is a file without a name there.
pub(crate) async fn flatten(
    layers: Vec<SourceLayer>,
    compression: Compression,
    scratch: &Path,
) -> Result<Flat, ImportError> {
    let directory =
        tempfile::tempdir_in(scratch).map_err(failed("create a directory in", scratch))?;
    let kept = keep(layers, &directory).await?;
    let scratch = scratch.to_owned();
    let made = tokio::task::spawn_blocking(move || {
        let file = tempfile::tempfile_in(&scratch).map_err(failed("create a file in", &scratch))?;
        let options = FlattenOptions {
            compression,
            ..FlattenOptions::default()
        };
        let output = io::BufWriter::with_capacity(BUFFER, &file);
        let made = archive::flatten(&kept, output, &options).map_err(ImportError::Flatten)?;
        // It was needed until now.
        drop(directory);
        Ok::<_, ImportError>((made, file, scratch))
    });
    let (made, file, scratch) = made.await??;
    let packed = made.packed;
    Ok(Flat {
        layer: SourceLayer {
            content: Content::Part(Part::whole(file, scratch, packed.size)),
            layer: Layer {
                digest: packed.digest,
                size: packed.size,
                media_type: compression.layer_media_type().to_owned(),
                diff_id: Some(packed.diff_id),
                unpacked_size: Some(packed.unpacked_size),
            },
        },
        left_out: made.left_out,
    })
}

/// Writes the layers to files, which are read twice.
async fn keep(
    layers: Vec<SourceLayer>,
    directory: &TempDir,
) -> Result<Vec<LayerSource>, ImportError> {
    let layers = layers.into_iter().enumerate();
    stream::iter(layers)
        .map(|(index, source)| {
            let path = directory.path().join(index.to_string());
            let (mut reader, layer) = (source.reader(), source.layer);
            let kept = tokio::task::spawn_blocking(move || {
                let file = File::create_new(&path).map_err(failed("create", &path))?;
                let mut output = io::BufWriter::with_capacity(BUFFER, file);
                let copied = io::copy(&mut reader, &mut output);
                let written = copied.and_then(|_| io::Write::flush(&mut output));
                written.map_err(failed("keep a layer in", &path))?;
                Ok::<_, ImportError>(LayerSource {
                    name: format!("layer {}", index + 1),
                    path,
                    growing: None,
                    digest: layer.digest,
                    size: Some(layer.size),
                    diff_id: layer.diff_id,
                    dialect: Dialect::Image,
                })
            });
            async { kept.await? }
        })
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await
}
