//! A layout in one file: a tar archive of its directory, as `skopeo copy … oci-archive:FILE`
//! makes it. Read in place; nothing is unpacked.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use deploy_spec::{Descriptor, Digest};

use super::{Content, INDEX, LayoutError, MARKER, check_marker, error::failed, index::Index};

/// An index or a marker is smaller; one that is not is not read.
const DOCUMENT_MAX: u64 = 4 << 20;

/// An archive of a layout. It may be replaced by another one at any time: what was read before
/// is read anew then.
#[derive(Debug)]
pub struct LayoutArchive {
    path: PathBuf,
    scanned: Mutex<Option<(Stamp, Entries)>>,
}

/// Where the files of the archive are: offset and size of each.
type Entries = HashMap<Vec<u8>, (u64, u64)>;

/// What is the same as long as a file is.
type Stamp = (u64, u64, u64, i64, i64);

impl LayoutArchive {
    /// Returns the layout in the archive at `path`.
    ///
    /// # Errors
    /// [`LayoutError::NotALayout`] where it is none, or compressed as a whole;
    /// [`LayoutError::File`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let archive = Self {
            path: path.into(),
            scanned: Mutex::new(None),
        };
        archive.index()?;
        Ok(archive)
    }

    /// Returns the archive's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn index(&self) -> Result<Index, LayoutError> {
        let marker = self.document(MARKER)?;
        check_marker(&marker).map_err(|reason| self.not_a_layout(reason))?;
        let index = self.document(INDEX)?;
        serde_json::from_slice(&index)
            .map_err(|error| self.not_a_layout(format!("`{INDEX}` is not valid: {error}")))
    }

    /// Returns a file of the layout's root.
    fn document(&self, name: &str) -> Result<Vec<u8>, LayoutError> {
        let Some((file, size)) = self.entry(name.as_bytes())? else {
            return Err(self.not_a_layout(format!("it has no file `{name}`")));
        };
        if size > DOCUMENT_MAX {
            return Err(self.not_a_layout(format!("`{name}` has {size} bytes")));
        }
        let mut bytes = Vec::new();
        (file.take(size).read_to_end(&mut bytes)).map_err(failed("read", &self.path))?;
        Ok(bytes)
    }

    /// Returns the archive, standing at the content of an entry, and how much that is.
    fn entry(&self, name: &[u8]) -> Result<Option<(File, u64)>, LayoutError> {
        let mut file = File::open(&self.path).map_err(failed("open", &self.path))?;
        let metadata = file.metadata().map_err(failed("read", &self.path))?;
        let mut scanned = self.scanned.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&metadata);
        if scanned.as_ref().is_none_or(|(known, _)| *known != stamp) {
            *scanned = Some((stamp, self.scan(&file)?));
        }
        let place = scanned
            .as_ref()
            .and_then(|(_, entries)| entries.get(name).copied());
        let Some((offset, size)) = place else {
            return Ok(None);
        };
        (file.seek(SeekFrom::Start(offset))).map_err(failed("read", &self.path))?;
        Ok(Some((file, size)))
    }

    fn scan(&self, file: &File) -> Result<Entries, LayoutError> {
        let damaged = |error: io::Error| match error.raw_os_error() {
            Some(_) => failed("read", &self.path)(error),
            None => self.not_a_layout(format!("it is no tar archive: {error}")),
        };
        let mut entries = Entries::new();
        let mut archive = tar::Archive::new(file);
        for entry in archive.entries_with_seek().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            if entry.header().entry_type().is_file() {
                let name = entry.path_bytes();
                let name = name.strip_prefix(b"./").unwrap_or(&name).to_vec();
                entries.insert(name, (entry.raw_file_position(), entry.size()));
            }
        }
        Ok(entries)
    }

    fn not_a_layout(&self, reason: String) -> LayoutError {
        LayoutError::NotALayout {
            path: self.path.clone(),
            reason,
        }
    }
}

impl Content for LayoutArchive {
    fn manifests(&self) -> Result<Vec<Descriptor>, LayoutError> {
        Ok(self.index()?.manifests)
    }

    fn open(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>, LayoutError> {
        let name = format!("blobs/{}/{}", digest.algorithm(), digest.hex());
        let entry = self.entry(name.as_bytes())?;
        Ok(entry.map(|(file, size)| Box::new(file.take(size)) as Box<dyn Read + Send>))
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    (
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    )
}

#[cfg(test)]
mod tests {
    use deploy_spec::{Tag, media_type};

    use super::*;
    use crate::layout::{Layout, named};

    /// Returns the archive of a layout with one blob in it, under a tag.
    fn archive(place: &Path, content: &[u8], tag: &str) -> PathBuf {
        let layout = Layout::create(place.join("layout")).unwrap();
        let digest = Digest::sha256(content);
        layout.put_blob(&digest, content).unwrap();
        let size = content.len() as u64;
        let descriptor = Descriptor::new(media_type::IMAGE_MANIFEST, digest, size);
        let tag: Tag = tag.parse().unwrap();
        layout.list(&descriptor, Some(&tag)).unwrap();
        let path = place.join("archive.tar");
        let mut builder = tar::Builder::new(File::create(place.join("new")).unwrap());
        builder.append_dir_all(".", layout.root()).unwrap();
        builder.into_inner().unwrap();
        std::fs::rename(place.join("new"), &path).unwrap();
        path
    }

    fn read(archive: &LayoutArchive, name: &str) -> Vec<u8> {
        let manifests = archive.manifests().unwrap();
        let digest = &named(&manifests, &[name]).unwrap().digest;
        let mut bytes = Vec::new();
        let mut blob = archive.open(digest).unwrap().unwrap();
        blob.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn blobs_are_read_in_place_and_a_replaced_archive_is_read_anew() {
        let place = tempfile::tempdir().unwrap();
        let found = LayoutArchive::open(archive(place.path(), b"one", "latest")).unwrap();
        assert_eq!(read(&found, "latest"), b"one");
        assert!(found.open(&Digest::sha256(b"else")).unwrap().is_none());
        assert!(named(&found.manifests().unwrap(), &["v1"]).is_none());
        archive(place.path(), b"another", "latest");
        assert_eq!(read(&found, "latest"), b"another");
    }

    #[test]
    fn other_files_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = archive(place.path(), b"one", "latest");
        let refused = |content: &[u8], expected: &str| {
            std::fs::write(&path, content).unwrap();
            let error = LayoutArchive::open(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let whole = std::fs::read(&path).unwrap();
        refused(b"", "has no file `oci-layout`");
        refused(&whole[..700], "no tar archive");
        refused(&[0; 1024], "has no file");
        refused(&[b'x'; 2048], "no tar archive");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            LayoutArchive::open(&path),
            Err(LayoutError::File { .. })
        ));
    }
}
