//! Reading a layout, be it a directory or one file.

use std::io::Read;

use deploy_spec::{Descriptor, Digest};

use super::{Layout, LayoutError};

/// The content of a layout. All its operations block.
pub trait Content: Send + Sync {
    /// Returns the descriptors of all manifests that the layout is about.
    ///
    /// # Errors
    /// [`LayoutError::NotALayout`] where the index cannot be read as one; [`LayoutError::File`].
    fn manifests(&self) -> Result<Vec<Descriptor>, LayoutError>;

    /// Opens a blob; its bytes are to be verified by whoever takes them. Nothing where the
    /// layout does not have it.
    ///
    /// # Errors
    /// [`LayoutError::File`].
    fn open(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>, LayoutError>;
}

impl Content for Layout {
    fn manifests(&self) -> Result<Vec<Descriptor>, LayoutError> {
        Layout::manifests(self)
    }

    fn open(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>, LayoutError> {
        match self.blob_size(digest)? {
            Some(_) => Ok(Some(Box::new(self.open_blob(digest)?))),
            None => Ok(None),
        }
    }
}

/// Returns the manifest of one of some names, the first that there is one of; without any the
/// only manifest of a layout, if that has no name. Names stand in the annotation
/// `org.opencontainers.image.ref.name` (OCI image-spec, "Image Layout").
pub fn named<'a>(manifests: &'a [Descriptor], names: &[&str]) -> Option<&'a Descriptor> {
    let of = |descriptor: &'a Descriptor| descriptor.annotation(super::index::REF_NAME);
    let by_name = |name: &&str| {
        let mut all = manifests.iter();
        all.find(|descriptor| of(descriptor) == Some(name))
    };
    names.iter().find_map(by_name).or(match manifests {
        [only] if of(only).is_none() => Some(only),
        _ => None,
    })
}
