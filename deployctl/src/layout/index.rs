//! The index of a layout, `index.json`: which manifests it is about, and under which names.

use std::{collections::BTreeMap, fs::File};

use deploy_spec::{Descriptor, Reference, Tag, media_type};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{INDEX, Layout, LayoutError, error::failed, publish};

/// The annotation that carries a manifest's tag (OCI image-spec, "Image Layout").
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    pub(super) manifests: Vec<Descriptor>,
    /// What others write there stays.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::IMAGE_INDEX.to_owned()),
            manifests: Vec::new(),
            rest: Map::new(),
        }
    }
}

impl Layout {
    /// Returns the descriptors of all manifests that the layout is about.
    ///
    /// # Errors
    /// [`LayoutError::NotALayout`] where the index cannot be read as one.
    pub fn manifests(&self) -> Result<Vec<Descriptor>, LayoutError> {
        Ok(self.read_index()?.manifests)
    }

    /// Returns the descriptor of a manifest; nothing where the layout does not list it.
    ///
    /// # Errors
    /// As [`Layout::manifests`].
    pub fn find(&self, reference: &Reference) -> Result<Option<Descriptor>, LayoutError> {
        let is_it = |descriptor: &Descriptor| match reference {
            Reference::Digest(digest) => descriptor.digest == *digest,
            Reference::Tag(tag) => descriptor.annotation(REF_NAME) == Some(tag.as_str()),
        };
        Ok(self.manifests()?.into_iter().find(is_it))
    }

    /// Lists a manifest, under a tag where one is given, which moves there if another manifest
    /// had it. Its content must be stored before. Idempotent.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn list(&self, descriptor: &Descriptor, tag: Option<&Tag>) -> Result<(), LayoutError> {
        let lock = File::open(&self.root).map_err(failed("open", &self.root))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| failed("lock", &self.root)(error.into()))?;
        let mut index = self.read_index()?;
        let mut entry = descriptor.clone();
        let mut annotations = entry.annotations.take().unwrap_or_default();
        annotations.remove(REF_NAME);
        if let Some(tag) = tag {
            annotations.insert(REF_NAME.to_owned(), tag.to_string());
        }
        entry.annotations =
            Some(annotations).filter(|annotations: &BTreeMap<_, _>| !annotations.is_empty());
        index.manifests.retain(|found| match tag {
            Some(tag) => found.annotation(REF_NAME) != Some(tag.as_str()),
            None => found.digest != entry.digest || found.annotation(REF_NAME).is_some(),
        });
        index.manifests.push(entry);
        self.write_index(&index)
    }

    fn read_index(&self) -> Result<Index, LayoutError> {
        let path = self.root.join(INDEX);
        let content = std::fs::read(&path).map_err(failed("read", &path))?;
        serde_json::from_slice(&content).map_err(|error| LayoutError::NotALayout {
            path: self.root.clone(),
            reason: format!("`{INDEX}` is not valid: {error}"),
        })
    }

    pub(super) fn write_index(&self, index: &Index) -> Result<(), LayoutError> {
        let content = serde_json::to_vec(index).expect("it has string keys only");
        publish(&self.root, INDEX, &content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deploy_spec::Digest;

    #[test]
    fn tags_move_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let descriptor = |content: &[u8]| {
            let digest = Digest::sha256(content);
            Descriptor::new(media_type::IMAGE_MANIFEST, digest, content.len() as u64)
        };
        let tag = |text: &str| text.parse::<Tag>().unwrap();
        let (one, two) = (descriptor(b"one"), descriptor(b"two"));
        layout.list(&one, Some(&tag("v1"))).unwrap();
        layout.list(&one, Some(&tag("latest"))).unwrap();
        layout.list(&two, Some(&tag("latest"))).unwrap();
        layout.list(&two, None).unwrap();
        layout.list(&two, None).unwrap();
        let digest = |text: &str| {
            let found = layout.find(&Reference::Tag(tag(text))).unwrap();
            found.map(|descriptor| descriptor.digest)
        };
        assert_eq!(digest("v1"), Some(one.digest));
        assert_eq!(digest("latest"), Some(two.digest.clone()));
        assert_eq!(digest("v2"), None);
        assert_eq!(layout.manifests().unwrap().len(), 3);
        assert!(
            layout
                .find(&Reference::Digest(two.digest))
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn what_others_write_into_the_index_stays() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let index = r#"{"schemaVersion":2,"manifests":[],"annotations":{"a":"b"},"extra":1}"#;
        std::fs::write(directory.path().join(INDEX), index).unwrap();
        let descriptor = Descriptor::new(media_type::IMAGE_MANIFEST, Digest::sha256(b""), 0);
        layout.list(&descriptor, None).unwrap();
        let written = std::fs::read_to_string(directory.path().join(INDEX)).unwrap();
        assert!(written.contains(r#""annotations":{"a":"b"}"#) && written.contains(r#""extra":1"#));
    }
}
