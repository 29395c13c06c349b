//! Why a registry is not reached as somebody means it. Returned by everything in `connect`.

use std::{io, path::PathBuf};

use crate::{
    client::{ClientError, CredentialsError},
    ssh::SshError,
};

/// Why there is no connection to be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The registry, or its address.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The auth file.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// An SSH key.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// Nothing to sign with.
    #[error("there is no key to sign with\nhint: give -key FILE, or `ssh-add` one")]
    NoKey,
    /// It is not said which key signs.
    #[error(
        "the ssh-agent keeps {0} keys, and it is not said which of them signs\nhint: give -key FILE; its public half is enough"
    )]
    SeveralKeys(usize),
    /// There is no home directory to remember registries in.
    #[error("there is no place to remember the registry\nhint: set HOME")]
    Nowhere,
    /// The file of known registries cannot be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}
