//! A key in a file, as `ssh-keygen` makes it.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
};

use ssh_key::{Algorithm, PublicKey};

use super::{Agent, Signer, SshError, ecdsa};
use crate::client::Secret;

/// More than any key has.
const BYTES_MAX: u64 = 64 << 10;

/// Who is asked for the passphrase of a key.
#[derive(Clone)]
pub struct Passphrase(Arc<Ask>);

type Ask = dyn Fn(&Path) -> Option<Secret> + Send + Sync;

impl Passphrase {
    /// Returns one whom this asks, on a thread that may wait; nothing is the answer of nobody.
    pub fn new(ask: impl Fn(&Path) -> Option<Secret> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Nobody.
    pub fn nobody() -> Self {
        Self::new(|_| None)
    }

    pub(super) fn ask(&self, path: &Path) -> Option<Secret> {
        (self.0)(path)
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Passphrase")
    }
}

/// Returns the key in a file. One on a security key, and one of which the file holds the public half
/// alone, is left to the agent. So is one behind a passphrase where the agent has it when something
/// is signed; otherwise the passphrase is asked for then.
///
/// # Errors
/// [`SshError`], with the file.
pub fn open(path: &Path, agent: Option<Agent>, passphrase: Passphrase) -> Result<Signer, SshError> {
    let text = read(path)?;
    let owned = || path.to_owned();
    let elsewhere = |agent: Option<Agent>, public| match agent {
        Some(agent) => Ok(Signer::of_agent(agent, public, Some(owned()))),
        None => Err(SshError::NotInAgent { path: owned() }),
    };
    if let Ok(public) = PublicKey::from_openssh(text.trim()) {
        return elsewhere(agent, public);
    }
    let key = ecdsa::parse(&text).map_err(|_| SshError::NoKey { path: owned() })?;
    let mode = mode(path)?;
    if mode & 0o077 != 0 {
        let path = owned();
        return Err(SshError::Exposed { path, mode });
    }
    match key.algorithm() {
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => {
            elsewhere(agent, key.public_key().clone())
        }
        _ if key.is_encrypted() => Ok(Signer::of_locked(owned(), key, agent, passphrase)),
        _ => Ok(Signer::of_key(key)),
    }
}

fn read(path: &Path) -> Result<String, SshError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(SshError::NoKey {
            path: path.to_owned(),
        }),
        Err(source) => Err(SshError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

fn mode(path: &Path) -> Result<u32, SshError> {
    let found = std::fs::metadata(path).map_err(|source| SshError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(found.permissions().mode() & 0o777)
}
