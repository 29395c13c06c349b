//! An OCI image layout: the content of a repository in a directory, or in an archive of one
//! (OCI image-spec, "Image Layout"). For offline bundles and importers, by way of `transfer`,
//! and for agents without a network.
//!
//! What is published is whole: blobs and the index are written beside their place, synced and
//! renamed. Several programs may read a layout while one writes it; writers of the index wait
//! for each other.

mod archive;
mod blobs;
mod content;
mod error;
mod index;

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use archive::LayoutArchive;
pub use content::{Content, named};
pub use error::LayoutError;
use error::failed;

const MARKER: &str = "oci-layout";
const INDEX: &str = "index.json";
const VERSION: &str = "1.0.0";

/// A layout on disk. All its operations block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

impl Layout {
    /// Returns the layout in a directory.
    ///
    /// # Errors
    /// [`LayoutError::NotALayout`] where the directory is none, or one of another version.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let root = root.into();
        let marker = root.join(MARKER);
        let not_a_layout = |reason: String| LayoutError::NotALayout {
            path: root.clone(),
            reason,
        };
        let content = match fs::read(&marker) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(not_a_layout(format!("it has no file `{MARKER}`")));
            }
            Err(error) => return Err(failed("read", &marker)(error)),
        };
        check_marker(&content).map_err(not_a_layout)?;
        Ok(Self { root })
    }

    /// Returns the layout in a directory, made where there is none. Idempotent.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn create(root: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let root = root.into();
        fs::create_dir_all(root.join("blobs/sha256")).map_err(failed("create", &root))?;
        if root.join(MARKER).exists() {
            return Self::open(root);
        }
        let layout = Self { root };
        if !layout.root.join(INDEX).exists() {
            layout.write_index(&index::Index::default())?;
        }
        let marker = Marker {
            image_layout_version: VERSION.to_owned(),
        };
        let marker = serde_json::to_vec(&marker).expect("it has string keys only");
        publish(&layout.root, MARKER, &marker)?;
        Ok(layout)
    }

    /// Returns the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Says why the content of an `oci-layout` is none that is known here.
fn check_marker(content: &[u8]) -> Result<(), String> {
    let marker: Marker = serde_json::from_slice(content)
        .map_err(|error| format!("`{MARKER}` is not valid: {error}"))?;
    match marker.image_layout_version.as_str() {
        VERSION => Ok(()),
        other => Err(format!("its version is `{}`", other.escape_debug())),
    }
}

/// Writes a file so that its name shows the old content or the new one, whole, also after a
/// power cut.
fn publish(directory: &Path, name: &str, content: &[u8]) -> Result<(), LayoutError> {
    let path = directory.join(name);
    let mut temporary =
        tempfile::NamedTempFile::new_in(directory).map_err(failed("write", &path))?;
    temporary
        .write_all(content)
        .map_err(failed("write", &path))?;
    temporary
        .as_file()
        .sync_all()
        .map_err(failed("sync", &path))?;
    temporary
        .persist(&path)
        .map_err(|error| failed("rename", &path)(error.error))?;
    sync_directory(directory)
}

/// Makes a rename in a directory survive a power cut.
fn sync_directory(directory: &Path) -> Result<(), LayoutError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creating_twice_is_creating_once() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        assert_eq!(Layout::create(directory.path()).unwrap(), layout);
        assert_eq!(Layout::open(directory.path()).unwrap(), layout);
        let marker = fs::read_to_string(directory.path().join(MARKER)).unwrap();
        assert_eq!(marker, r#"{"imageLayoutVersion":"1.0.0"}"#);
    }

    #[test]
    fn other_directories_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |expected: &str| {
            let error = Layout::open(directory.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        refused("has no file");
        fs::write(directory.path().join(MARKER), "{").unwrap();
        refused("not valid");
        fs::write(
            directory.path().join(MARKER),
            r#"{"imageLayoutVersion":"2.0.0"}"#,
        )
        .unwrap();
        refused("`2.0.0`");
    }
}
