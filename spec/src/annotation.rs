//! The annotation keys that manifests and descriptors carry, standard ones first.
//! Used by the documents of this crate and by whoever writes other manifests.

/// When the content was made, as an RFC 3339 time in UTC (OCI image-spec, annotations).
pub const CREATED: &str = "org.opencontainers.image.created";
/// The version of the packaged content; on a release its number, `v<N>`.
pub const VERSION: &str = "org.opencontainers.image.version";
/// The revision of the source that the content was built from.
pub const REVISION: &str = "org.opencontainers.image.revision";
/// The name for people: the component or the configuration.
pub const TITLE: &str = "org.opencontainers.image.title";
/// Who made the content, free text.
pub const AUTHORS: &str = "org.opencontainers.image.authors";
/// On a release made of an image: the reference of that image, as it was given.
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// On a release made of an image: the digest of that image's manifest, or of its configuration
/// where it came without a manifest.
pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// On a layer of a release: the component that the layer comes from.
pub const COMPONENT: &str = "dev.deploytools.component";
/// On a layer of a release: the version of that component.
pub const COMPONENT_VERSION: &str = "dev.deploytools.version";
/// On a layer of a release: when that version was made, as an RFC 3339 time in UTC.
pub const COMPONENT_CREATED: &str = "dev.deploytools.created";
/// On a layer: the digest of the uncompressed tar archive.
pub const DIFF_ID: &str = "dev.deploytools.diff-id";
/// On a layer: the size of the uncompressed tar archive in bytes, decimal.
pub const UNPACKED_SIZE: &str = "dev.deploytools.unpacked-size";
/// On a release: the digest of the manifest of the release that it was made from.
pub const PARENT: &str = "dev.deploytools.parent";
/// On a release: why it was made, free text.
pub const REASON: &str = "dev.deploytools.reason";
/// On a release: the channel that it was made for.
pub const CHANNEL: &str = "dev.deploytools.channel";
/// On a release made of an image: when that image was made, as the image has it.
pub const ORIGIN_CREATED: &str = "dev.deploytools.origin-created";
/// On a release made of an image: the title that the image had; a release has its own.
pub const ORIGIN_TITLE: &str = "dev.deploytools.origin-title";
/// On a release made of an image: the version that the image had; a release has its number.
pub const ORIGIN_VERSION: &str = "dev.deploytools.origin-version";
/// On a release made of an image: the authors that the image had; a release has its own.
pub const ORIGIN_AUTHORS: &str = "dev.deploytools.origin-authors";
/// On a release made of an image: the reference of the image that this one was built on, as it says;
/// a release has the image itself there.
pub const ORIGIN_BASE_NAME: &str = "dev.deploytools.origin-base-name";
/// On a release made of an image: the digest of the image that this one was built on, as it says.
pub const ORIGIN_BASE_DIGEST: &str = "dev.deploytools.origin-base-digest";
