//! Signatures of releases: what is signed (`statement`), and how it is stored beside the release
//! (`manifest`). Made by `deployctl`, verified by agents; README, "A signature".

mod manifest;
mod statement;

pub use manifest::{Documents, SignatureError, SignatureManifest};
pub use statement::{Purpose, Statement, StatementError};

/// The namespace of the signature (PROTOCOL.sshsig §2): what is signed for one purpose is of no
/// use for another.
pub const NAMESPACE: &str = "release@deploy-tools";
/// The most bytes that a statement has; names and digests make a few hundred.
pub const STATEMENT_MAX: u64 = 4 << 10;
/// The most bytes that an armored signature has; one by an RSA key of 16384 bits has six thousand.
pub const ARMORED_MAX: u64 = 16 << 10;
/// The most bytes that the manifest of a signature has, whoever wrote it.
pub const MANIFEST_MAX: u64 = 64 << 10;
/// So many signatures of one release are looked at; the others might as well not be there.
pub const SIGNATURES_MAX: usize = 64;

/// A signature as it is stored: two files that `ssh-keygen -Y verify` takes. Nothing in it is
/// known to be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The bytes that are signed: a [`Statement`].
    pub statement: Vec<u8>,
    /// The signature, armored (PROTOCOL.sshsig §1).
    pub armored: Vec<u8>,
}
