//! Archives that cannot be read from any place: streams, and files that are compressed as a whole.
//! They are written to a file without a name, which is gone with this process however it ends.
//! Called by `source`.

use std::{
    fs::File,
    io::{self, Read, Seek as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use deploy_spec::{Algorithm, media_type::Compression};
use deployctl::archive::{self, ArchiveError};

use crate::{ImportError, error::failed};

const BUFFER: usize = 256 * 1024;

/// Returns an archive that can be read from any place: the file itself, or what is compressed in it.
pub(super) async fn file(path: PathBuf, scratch: &Path) -> Result<Arc<File>, ImportError> {
    let scratch = scratch.to_owned();
    tokio::task::spawn_blocking(move || {
        let file = File::open(&path).map_err(failed("open", &path))?;
        let metadata = file.metadata().map_err(failed("read", &path))?;
        if metadata.is_dir() {
            let source = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(failed("read", &path)(source));
        }
        if !metadata.is_file() {
            return store(file, &format!("`{}`", path.display()), &scratch);
        }
        let mut first = [0; Compression::SNIFF_BYTES];
        let count = file.read_at(&mut first, 0).map_err(failed("read", &path))?;
        match Compression::sniff(&first[..count]) {
            Compression::None => Ok(Arc::new(file)),
            _ => store(file, &format!("`{}`", path.display()), &scratch),
        }
    })
    .await?
}

/// Returns what comes on standard input as such a file; where that is one already, it is not
/// copied.
pub(super) async fn stdin(stdin: Arc<File>, scratch: &Path) -> Result<Arc<File>, ImportError> {
    let scratch = scratch.to_owned();
    tokio::task::spawn_blocking(move || {
        let path = Path::new("standard input");
        let metadata = stdin.metadata().map_err(failed("read", path))?;
        let mut first = [0; Compression::SNIFF_BYTES];
        if metadata.is_file()
            && (&*stdin).stream_position().map_err(failed("read", path))? == 0
            && let Ok(count) = stdin.read_at(&mut first, 0)
            && Compression::sniff(&first[..count]) == Compression::None
        {
            return Ok(stdin);
        }
        store(&*stdin, "standard input", &scratch)
    })
    .await?
}

/// Writes a stream to a file without a name, uncompressed. Blocks; memory is bounded.
pub(super) fn store(
    stream: impl Read,
    origin: &str,
    scratch: &Path,
) -> Result<Arc<File>, ImportError> {
    let file = tempfile::tempfile_in(scratch).map_err(failed("create a file in", scratch))?;
    let stream = io::BufReader::with_capacity(BUFFER, stream);
    let output = io::BufWriter::with_capacity(BUFFER, &file);
    let stored = archive::recompress(stream, Algorithm::Sha256, output, Compression::None);
    stored.map_err(|source| match source {
        ArchiveError::Write(source) => failed("write to a file in", scratch)(source),
        source => ImportError::Stream {
            origin: origin.to_owned(),
            source,
        },
    })?;
    Ok(Arc::new(file))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn compressed_archives_are_kept_as_what_is_in_them() {
        let place = tempfile::tempdir().unwrap();
        let plain = vec![7; 1 << 20];
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let path = place.path().join("archive");
            let output = File::create(&path).unwrap();
            archive::recompress(&plain[..], Algorithm::Sha256, output, compression).unwrap();
            let found = file(path.clone(), place.path()).await.unwrap();
            let mut bytes = vec![0; plain.len()];
            found.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(found.metadata().unwrap().len(), plain.len() as u64);
            assert_eq!(bytes, plain);
            let input = Arc::new(File::open(&path).unwrap());
            let found = stdin(input, place.path()).await.unwrap();
            assert_eq!(found.metadata().unwrap().len(), plain.len() as u64);
        }
        let names = std::fs::read_dir(place.path()).unwrap().count();
        assert_eq!(names, 1, "what is kept has no name");
    }

    #[tokio::test]
    async fn a_stream_without_bytes_and_a_directory_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let error = store(&b""[..], "standard input", place.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read the archive of images from standard input"
        );
        let error = file(place.path().to_owned(), place.path())
            .await
            .unwrap_err();
        assert!(matches!(error, ImportError::File { action: "read", .. }));
        let mut cut = File::create(place.path().join("cut")).unwrap();
        cut.write_all(&[0x1f, 0x8b, 8]).unwrap();
        let result = file(place.path().join("cut"), place.path()).await;
        assert!(matches!(result, Err(ImportError::Stream { .. })));
    }
}
