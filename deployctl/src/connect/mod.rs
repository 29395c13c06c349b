//! How a registry is reached by somebody at a terminal: what he says, what `login` remembers, what
//! stands in the auth file, what his ssh-agent keeps. For the programs that people run; what
//! they would read from the environment is passed in.

mod error;
mod known;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use deploy_spec::Fingerprint;

use crate::{
    client::{Address, ClientError, Credentials, Options, Registry},
    ssh::{self, Agent, Passphrase, Signer},
};
pub use error::ConnectError;
pub use known::{Known, KnownRegistries};

/// What somebody says of a registry.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its address.
    pub address: Address,
    /// The fingerprint of its key.
    pub fingerprint: Option<Fingerprint>,
    /// The file of the SSH key to prove himself with.
    pub key: Option<PathBuf>,
}

/// What surrounds somebody.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Looks up what is set, the environment in most programs.
    pub variable: fn(&str) -> Option<OsString>,
    /// Who is asked for the passphrases of keys.
    pub passphrase: Passphrase,
}

/// A registry, and what is used to talk to it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its address.
    pub address: Address,
    /// The fingerprint of its key.
    pub fingerprint: Option<Fingerprint>,
    /// What the client proves itself with.
    pub credentials: Credentials,
    /// The file of the key among the credentials.
    pub key: Option<PathBuf>,
    /// Where uploads are kept that are under way.
    pub unfinished: Option<PathBuf>,
}

impl Surroundings {
    /// Returns what `login` remembers.
    pub fn known(&self) -> KnownRegistries {
        KnownRegistries::locate(self.variable)
    }

    /// Returns the directory of uploads that are under way, where the XDG base directories have what
    /// may be lost; nothing where there are none.
    pub fn unfinished(&self) -> Option<PathBuf> {
        let directory = xdg_directory(self.variable, "XDG_CACHE_HOME", ".cache");
        directory.map(|directory| directory.join("deployctl/uploads"))
    }

    /// Returns the ssh-agent of this session.
    pub fn agent(&self) -> Option<Agent> {
        let socket = (self.variable)("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
        socket.map(Agent::new)
    }

    /// Returns the SSH key in a file.
    ///
    /// # Errors
    /// [`ConnectError::Ssh`].
    pub fn open(&self, path: &Path) -> Result<Signer, ConnectError> {
        Ok(ssh::open(path, self.agent(), self.passphrase.clone())?)
    }

    fn key_or_agent(&self, key: Option<&Path>) -> Result<Credentials, ConnectError> {
        Ok(match (key, self.agent()) {
            (Some(path), _) => Credentials::Key(self.open(path)?),
            (None, Some(agent)) => Credentials::Agent(agent),
            (None, None) => Credentials::Anonymous,
        })
    }
}

/// Returns what a variable of the XDG base directories says, or else the directory of this name in the
/// home directory.
fn xdg_directory(
    variable: impl Fn(&str) -> Option<OsString>,
    name: &str,
    in_home: &str,
) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    match set(name) {
        Some(directory) => Some(PathBuf::from(directory)),
        None => set("HOME").map(|home| Path::new(&home).join(in_home)),
    }
}

impl Connection {
    /// Returns the connection that somebody means, with what `login` remembers where he leaves
    /// something open: a key that he names, or else what the auth file has, or else the key that
    /// was used before, or else whatever the ssh-agent keeps.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn find(wanted: Wanted, surroundings: &Surroundings) -> Result<Self, ConnectError> {
        let Wanted {
            address,
            fingerprint,
            mut key,
        } = wanted;
        let known = surroundings.known().recall(&address)?.unwrap_or_default();
        // Whoever writes `http://` now does not want what was pinned before.
        let fingerprint =
            fingerprint.or_else(|| known.fingerprint.filter(|_| !address.is_plain_by_choice()));
        let credentials = match &key {
            Some(path) => Credentials::Key(surroundings.open(path)?),
            None => match Credentials::load(&address, surroundings.variable)? {
                Credentials::Anonymous => {
                    key = known.key;
                    surroundings.key_or_agent(key.as_deref())?
                }
                stored => stored,
            },
        };
        Ok(Self {
            address,
            fingerprint,
            credentials,
            key,
            unfinished: surroundings.unfinished(),
        })
    }

    /// Returns the connection to a registry that `login` remembers.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn of(known: &Known, surroundings: &Surroundings) -> Result<Self, ConnectError> {
        Ok(Self {
            address: known.address.parse().map_err(ClientError::Address)?,
            fingerprint: known.fingerprint,
            credentials: surroundings.key_or_agent(known.key.as_deref())?,
            key: known.key.clone(),
            unfinished: surroundings.unfinished(),
        })
    }

    /// Returns the registry.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn registry(&self) -> Result<Registry, ClientError> {
        let options = Options {
            credentials: self.credentials.clone(),
            fingerprint: self.fingerprint,
            unfinished: self.unfinished.clone(),
            ..Options::default()
        };
        Registry::new(self.address.clone(), options)
    }

    /// Returns the key that signs releases: the one that the registry knows its owner by, or else
    /// the only one that the ssh-agent keeps.
    ///
    /// # Errors
    /// [`ConnectError::NoKey`], [`ConnectError::SeveralKeys`], [`ConnectError::Ssh`].
    pub async fn signer(&self, surroundings: &Surroundings) -> Result<Signer, ConnectError> {
        if let Credentials::Key(signer) = &self.credentials {
            return Ok(signer.clone());
        }
        let keys = match surroundings.agent() {
            Some(agent) => agent.keys().await?,
            None => Vec::new(),
        };
        match &*keys {
            [only] => Ok(only.clone()),
            [] => Err(ConnectError::NoKey),
            several => Err(ConnectError::SeveralKeys(several.len())),
        }
    }
}
