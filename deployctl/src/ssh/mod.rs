//! SSH keys that sign for somebody: in files, or in an agent. For whoever logs in to a registry or
//! signs a release.
//!
//! ```text
//! signer    a key, and what is signed with it (SSHSIG)
//! key_file  a key in a file, maybe behind a passphrase
//! rsa       what a library cannot sign
//! ecdsa     what it cannot read
//! agent     keys that a program of its own keeps
//! ```

mod agent;
mod ecdsa;
mod error;
mod key_file;
mod rsa;
mod signer;

pub use agent::Agent;
pub use error::SshError;
pub use key_file::{Passphrase, open};
pub use signer::Signer;
