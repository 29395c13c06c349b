//! Media types of everything that the tools store, and what they say about compression.
//! Used wherever a manifest is written or read.

use std::fmt;

/// OCI image manifest.
pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image configuration.
pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The OCI empty document, `{}`.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Docker image manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list, version 2.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Layer as a plain tar archive.
pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// Layer as a tar archive compressed with gzip.
pub const LAYER_TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Layer as a tar archive compressed with Zstandard.
pub const LAYER_TAR_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// `artifactType` of a component version's manifest.
pub const COMPONENT: &str = "application/vnd.deploytools.component.v1+json";
/// `artifactType` of a release's manifest.
pub const RELEASE: &str = "application/vnd.deploytools.release.v1+json";
/// `artifactType` of the manifest of a release's signature.
pub const SIGNATURE: &str = "application/vnd.deploytools.signature.v1+json";
/// What is signed.
pub const STATEMENT: &str = "application/vnd.deploytools.statement.v1+json";
/// The signature of it, armored (PROTOCOL.sshsig §1).
pub const SSH_SIGNATURE: &str = "application/vnd.deploytools.ssh-signature.v1";

/// Every media type that a manifest may be asked for under, for an `Accept` header.
pub const MANIFESTS: [&str; 4] = [
    IMAGE_MANIFEST,
    IMAGE_INDEX,
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
];

/// How a layer's tar archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// A plain tar archive.
    None,
    /// gzip, one or several members (RFC 1952).
    Gzip,
    /// Zstandard, one or several frames (RFC 8878).
    Zstd,
}

impl Compression {
    /// How many leading bytes [`Compression::sniff`] needs to decide.
    pub const SNIFF_BYTES: usize = 4;

    /// Returns the compression that the first bytes of a file announce; `None` for
    /// whatever bears neither magic number, which then must prove to be a tar archive.
    pub fn sniff(first_bytes: &[u8]) -> Self {
        match first_bytes {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame may come first (RFC 8878 §3.1.2).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Returns the compression that a layer's media type announces, for OCI's and
    /// Docker's types, distributable or not; nothing for any other type.
    pub fn of_layer(media_type: &str) -> Option<Self> {
        match media_type {
            LAYER_TAR | "application/vnd.oci.image.layer.nondistributable.v1.tar" => {
                Some(Self::None)
            }
            LAYER_TAR_GZIP
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Self::Gzip),
            LAYER_TAR_ZSTD
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Self::Zstd),
            "application/vnd.docker.image.rootfs.diff.tar" => Some(Self::None),
            _ => None,
        }
    }

    /// Returns the OCI media type of a layer that is compressed this way.
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Self::None => LAYER_TAR,
            Self::Gzip => LAYER_TAR_GZIP,
            Self::Zstd => LAYER_TAR_ZSTD,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_media_type_and_compression_agree_both_ways() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            assert_eq!(
                Compression::of_layer(compression.layer_media_type()),
                Some(compression)
            );
        }
        assert_eq!(Compression::of_layer("application/json"), None);
    }

    #[test]
    fn magic_numbers_decide() {
        let table: [(&[u8], Compression); 6] = [
            (&[0x1f, 0x8b, 8, 0], Compression::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
            (&[0x5d, 0x2a, 0x4d, 0x18, 9], Compression::Zstd),
            (b"ustar", Compression::None),
            (&[0x1f], Compression::None),
            (&[], Compression::None),
        ];
        for (bytes, expected) in table {
            assert_eq!(Compression::sniff(bytes), expected, "{bytes:?}");
        }
    }
}
