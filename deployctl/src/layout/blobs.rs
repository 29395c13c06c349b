//! Blobs of a layout: `blobs/<algorithm>/<hex>`.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use deploy_spec::{Digest, Hasher};

use super::{Layout, LayoutError, error::failed, sync_directory};

const COPY_BUFFER: usize = 256 * 1024;

impl Layout {
    /// Returns where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_directory(digest).join(digest.hex())
    }

    /// Returns where a download of a blob may gather its bytes, to be resumed after a crash and
    /// handed to [`Layout::adopt`]. The directory exists.
    ///
    /// # Errors
    /// [`LayoutError::File`].
    pub fn partial_path(&self, digest: &Digest) -> Result<PathBuf, LayoutError> {
        let directory = self.blob_directory(digest);
        fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
        Ok(directory.join(format!(".{}.part", digest.hex())))
    }

    fn blob_directory(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().as_str())
    }

    /// Returns the size of a blob; nothing where the layout does not have it.
    ///
    /// # Errors
    /// [`LayoutError::File`].
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, LayoutError> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Returns the bytes of a small blob, verified; nothing where the layout does not have it.
    ///
    /// # Errors
    /// [`LayoutError::Digest`], [`LayoutError::File`].
    pub fn read_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, LayoutError> {
        let path = self.blob_path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        verify(&path, digest, Digest::of(digest.algorithm(), &bytes))?;
        Ok(Some(bytes))
    }

    /// Stores a blob. Idempotent: one that is there is left alone, and nothing is read.
    ///
    /// # Errors
    /// [`LayoutError::Digest`] where the content is another, and then nothing is stored;
    /// [`LayoutError::File`].
    pub fn put_blob(&self, digest: &Digest, mut content: impl Read) -> Result<(), LayoutError> {
        if self.blob_size(digest)?.is_some() {
            return Ok(());
        }
        let directory = self.blob_directory(digest);
        fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
        let path = self.blob_path(digest);
        let mut file =
            tempfile::NamedTempFile::new_in(&directory).map_err(failed("write", &path))?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; COPY_BUFFER];
        loop {
            let count = content
                .read(&mut buffer)
                .map_err(failed("copy to", &path))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count])
                .map_err(failed("write", &path))?;
        }
        verify(&path, digest, hasher.finish())?;
        file.as_file().sync_all().map_err(failed("sync", &path))?;
        file.persist(&path)
            .map_err(|error| failed("rename", &path)(error.error))?;
        sync_directory(&directory)
    }

    /// Takes over a file that is this blob, verified and synced, and lies in the directory of
    /// [`Layout::partial_path`].
    ///
    /// # Errors
    /// [`LayoutError::File`].
    pub fn adopt(&self, digest: &Digest, file: &Path) -> Result<(), LayoutError> {
        fs::rename(file, self.blob_path(digest)).map_err(failed("rename", file))?;
        sync_directory(&self.blob_directory(digest))
    }

    /// Opens a blob for reading; its bytes are to be verified by whoever takes them.
    ///
    /// # Errors
    /// [`LayoutError::File`].
    pub fn open_blob(&self, digest: &Digest) -> Result<File, LayoutError> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(failed("open", &path))
    }
}

fn verify(path: &Path, expected: &Digest, found: Digest) -> Result<(), LayoutError> {
    if found == *expected {
        return Ok(());
    }
    Err(LayoutError::Digest {
        path: path.to_owned(),
        expected: expected.clone(),
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use deploy_spec::Algorithm;

    #[test]
    fn blobs_are_stored_once_and_verified() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        for algorithm in Algorithm::ALL {
            let digest = Digest::of(algorithm, b"content");
            assert_eq!(layout.read_blob(&digest).unwrap(), None);
            layout.put_blob(&digest, &b"content"[..]).unwrap();
            layout.put_blob(&digest, &b"not even read"[..]).unwrap();
            assert_eq!(layout.read_blob(&digest).unwrap().unwrap(), b"content");
            assert_eq!(layout.blob_size(&digest).unwrap(), Some(7));
        }
    }

    #[test]
    fn other_content_is_refused_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let digest = Digest::sha256(b"content");
        let refused = layout.put_blob(&digest, &b"other"[..]);
        assert!(matches!(refused, Err(LayoutError::Digest { .. })));
        let left = fs::read_dir(layout.blob_directory(&digest))
            .unwrap()
            .count();
        assert_eq!(left, 0);
        fs::write(layout.blob_path(&digest), "damaged").unwrap();
        assert!(matches!(
            layout.read_blob(&digest),
            Err(LayoutError::Digest { .. })
        ));
    }
}
