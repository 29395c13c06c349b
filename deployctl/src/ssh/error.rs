//! What can go wrong with SSH keys. Returned by everything in `ssh`.

use std::{io, path::PathBuf};

use deploy_spec::Fingerprint;

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// The file cannot be read.
    #[error("cannot read key `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is there and is no key.
    #[error(
        "`{}` holds no SSH key in OpenSSH's format\nhint: `ssh-keygen -p -f FILE` brings keys of older formats into it", path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Others could have copied it.
    #[error(
        "key `{}` may be read by others than its owner (mode {mode:o})\nhint: `chmod 600` it, and replace it if anybody has",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A passphrase is in front of it, and nobody typed one.
    #[error(
        "key `{}` has a passphrase, and there is nobody to ask for it\nhint: `ssh-add` it, or use a key without one where nobody sits in front", path.display()
    )]
    NoPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// Another passphrase was typed.
    #[error("that is not the passphrase of key `{}`", path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The private half is somewhere else.
    #[error(
        "the private key of `{}` is not in it: it has to be in the ssh-agent, and is not\nhint: `ssh-add` it", path.display()
    )]
    NotInAgent {
        /// The file with the public half.
        path: PathBuf,
    },
    /// The agent does not answer.
    #[error("cannot use the ssh-agent at `{}`: {reason}", socket.display())]
    Agent {
        /// Where it listens.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
    /// The key does not sign.
    #[error("key `{key}` did not sign: {reason}")]
    Refused {
        /// Which.
        key: Fingerprint,
        /// Why.
        reason: String,
    },
}
