//! An image in a registry. Called by `source`.

use deploy_spec::Descriptor;
use deployctl::client::Registry;

use super::{
    SourceImage,
    image::{self, Said, Wanted},
    store::Store,
};
use crate::{ImportError, reference::ImageName};

/// Returns the image of this name.
pub(super) async fn open(
    registry: Registry,
    name: &ImageName,
    origin: String,
    wanted: &Wanted,
) -> Result<SourceImage, ImportError> {
    let repository = registry.repository(name.path.clone());
    let head = repository.manifest_head(&name.reference).await?;
    let head = head.ok_or_else(|| ImportError::NoSuchImage {
        place: format!("{}/{}", name.host, name.path),
        wanted: name.reference.to_string(),
        there: Vec::new(),
    })?;
    let store = Store::Repository(repository);
    let descriptor = Descriptor::new(head.media_type, head.digest, head.size);
    let found = image::follow(&store, &descriptor, wanted, &origin).await?;
    let said = Said {
        origin,
        name: Some(name.familiar()),
    };
    image::load(&store, found, wanted, said).await
}
