//! OCI image layouts in a directory: written for clients to push, read after they pulled.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::check::{Stop, Verdict};
use crate::content::{self, Blob, Manifest};
use crate::digest;

/// The tag that a layout's content has in it.
pub(super) const TAG: &str = "v1";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The platforms of an index; clients without a choice take the first.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// Content in memory and, as an image layout, on disk.
pub(super) struct Layout {
    /// The layout's directory.
    pub(super) path: PathBuf,
    /// What the tag leads to.
    pub(super) root: Manifest,
    /// The manifests below the root.
    pub(super) children: Vec<Manifest>,
    /// Configs and layers.
    pub(super) blobs: Vec<Blob>,
}

/// A manifest and its blobs.
type Image = (Value, Vec<Blob>);

impl Layout {
    /// An image of two layers that can be unpacked.
    pub(super) fn image(parent: &Path) -> std::io::Result<Self> {
        let (manifest, blobs) = image(ARCHITECTURES[0])?;
        Self::write(parent, "image", Manifest::of(&manifest), Vec::new(), blobs)
    }

    /// An index of two images.
    pub(super) fn index(parent: &Path) -> std::io::Result<Self> {
        let (mut children, mut blobs, mut descriptors) = (Vec::new(), Vec::new(), Vec::new());
        for architecture in ARCHITECTURES {
            let (manifest, more) = image(architecture)?;
            let manifest = Manifest::of(&manifest);
            let mut descriptor = manifest.descriptor();
            descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
            descriptors.push(descriptor);
            children.push(manifest);
            blobs.extend(more);
        }
        let root = Manifest::of(&content::index(&descriptors));
        Self::write(parent, "index", root, children, blobs)
    }

    /// An artifact of one file.
    pub(super) fn artifact(parent: &Path) -> std::io::Result<Self> {
        let (empty, blob) = (content::empty(), Blob::random(2000));
        let mut file = blob.descriptor("application/vnd.example.data");
        file["annotations"] = json!({"org.opencontainers.image.title": "data.bin"});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": content::IMAGE,
            "artifactType": "application/vnd.example.thing.v1",
            "config": empty.descriptor(content::EMPTY),
            "layers": [file],
            "annotations": {"org.example.unique": content::unique()},
        });
        let root = Manifest::of(&manifest);
        Self::write(parent, "artifact", root, Vec::new(), vec![empty, blob])
    }

    /// The same content with the root itself as the layout's `index.json`, as crane wants it
    /// for an index.
    pub(super) fn with_root_as_index(self) -> std::io::Result<Self> {
        std::fs::write(self.path.join("index.json"), &self.root.bytes)?;
        Ok(self)
    }

    fn write(
        parent: &Path,
        name: &str,
        root: Manifest,
        children: Vec<Manifest>,
        blobs: Vec<Blob>,
    ) -> std::io::Result<Self> {
        let path = parent.join(format!("{name}-{}", content::unique()));
        let directory = path.join("blobs/sha256");
        std::fs::create_dir_all(&directory)?;
        let manifests = children.iter().chain([&root]);
        let contents = manifests
            .map(|manifest| (&manifest.digest, &manifest.bytes))
            .chain(blobs.iter().map(|blob| (&blob.digest, &blob.bytes)));
        for (digest, bytes) in contents {
            std::fs::write(directory.join(hex(digest)), bytes)?;
        }
        let mut descriptor = root.descriptor();
        descriptor["annotations"] = json!({REF_NAME: TAG});
        let index = json!({
            "schemaVersion": 2,
            "mediaType": content::INDEX,
            "manifests": [descriptor],
        });
        std::fs::write(path.join("index.json"), index.to_string())?;
        let version = json!({"imageLayoutVersion": "1.0.0"});
        std::fs::write(path.join("oci-layout"), version.to_string())?;
        Ok(Self {
            path,
            root,
            children,
            blobs,
        })
    }
}

fn hex(digest: &str) -> &str {
    digest.split_once(':').map_or(digest, |(_, hex)| hex)
}

/// An image of two layers of one file each.
fn image(architecture: &str) -> std::io::Result<Image> {
    let (mut blobs, mut layers, mut diff_ids) = (Vec::new(), Vec::new(), Vec::new());
    for name in ["one", "two"] {
        let archive = archive(name)?;
        diff_ids.push(digest::sha256(&archive));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&archive)?;
        let blob = Blob::of(encoder.finish()?);
        layers.push(blob.descriptor(LAYER));
        blobs.push(blob);
    }
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Labels": {"org.example.unique": content::unique()}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = Blob::of(config.to_string());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": content::IMAGE,
        "config": config.descriptor(content::IMAGE_CONFIG),
        "layers": layers,
    });
    blobs.push(config);
    Ok((manifest, blobs))
}

/// A tar archive of one new file.
fn archive(name: &str) -> std::io::Result<Vec<u8>> {
    let bytes = content::random_bytes(3000);
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, bytes.as_slice())?;
    archive.into_inner()
}

/// Holds a layout that a client wrote against what it pulled: the root is listed, and
/// everything below it is there and fits its digest.
pub(super) fn holds(path: &Path, layout: &Layout) -> Verdict {
    let fail =
        |expected: String, got: String| Stop::fail(path.display().to_string(), expected, got);
    let index = std::fs::read(path.join("index.json"))
        .map_err(|error| fail("an index.json".into(), error.to_string()))?;
    let index: Value = serde_json::from_slice(&index)
        .map_err(|error| fail("an index.json of JSON".into(), error.to_string()))?;
    // crane writes a pulled index as one entry, others may list its children too.
    let listed = index["manifests"].as_array().is_some_and(|manifests| {
        manifests
            .iter()
            .any(|one| one["digest"] == json!(layout.root.digest))
    });
    if !listed {
        return Err(fail(
            format!("{} in index.json", layout.root.digest),
            index.to_string(),
        ));
    }
    let digests: BTreeSet<&String> = [&layout.root.digest]
        .into_iter()
        .chain(layout.children.iter().map(|child| &child.digest))
        .chain(layout.blobs.iter().map(|blob| &blob.digest))
        .collect();
    for digest in digests {
        let file = path.join("blobs/sha256").join(hex(digest));
        let bytes = std::fs::read(&file)
            .map_err(|error| fail(format!("the content {digest}"), error.to_string()))?;
        if !digest::matches(digest, &bytes) {
            return Err(fail(
                format!("content that fits {digest}"),
                "other bytes".into(),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_layout_holds_itself_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let one = Layout::index(directory.path()).unwrap();
        let two = Layout::image(directory.path()).unwrap();
        assert!(holds(&one.path, &one).is_ok());
        assert!(holds(&one.path, &two).is_err());
        let blob = one
            .path
            .join("blobs/sha256")
            .join(hex(&one.blobs[0].digest));
        std::fs::write(blob, b"other").unwrap();
        assert!(holds(&one.path, &one).is_err());
    }
}
