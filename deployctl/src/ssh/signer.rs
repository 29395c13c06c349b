//! A key that signs, wherever its private half is.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use deploy_spec::Fingerprint;
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::{Agent, Passphrase, SshError, ecdsa, rsa};

/// An SSH key that can sign. Cheap to clone; a passphrase is asked for once, when it is needed.
#[derive(Clone)]
pub struct Signer(Arc<Inner>);

struct Inner {
    public: PublicKey,
    fingerprint: Fingerprint,
    held: Held,
}

/// Where the private half is.
enum Held {
    Here(Box<PrivateKey>),
    Locked {
        path: PathBuf,
        key: Box<PrivateKey>,
        /// Where it may be unlocked already.
        agent: Option<Agent>,
        passphrase: Passphrase,
        unlocked: Box<OnceLock<PrivateKey>>,
    },
    InAgent {
        agent: Agent,
        /// The file that names it.
        path: Option<PathBuf>,
    },
}

impl Signer {
    pub(super) fn of_key(key: PrivateKey) -> Self {
        Self::new(key.public_key().clone(), Held::Here(Box::new(key)))
    }

    pub(super) fn of_locked(
        path: PathBuf,
        key: PrivateKey,
        agent: Option<Agent>,
        passphrase: Passphrase,
    ) -> Self {
        let held = Held::Locked {
            path,
            agent,
            passphrase,
            unlocked: Box::default(),
            key: Box::new(key.clone()),
        };
        Self::new(key.public_key().clone(), held)
    }

    /// `path` is the file that names it, where one does.
    pub(super) fn of_agent(agent: Agent, public: PublicKey, path: Option<PathBuf>) -> Self {
        Self::new(public, Held::InAgent { agent, path })
    }

    fn new(public: PublicKey, held: Held) -> Self {
        let encoded = public.to_bytes().unwrap_or_default();
        Self(Arc::new(Inner {
            fingerprint: Fingerprint::of_ssh_key(&encoded),
            public,
            held,
        }))
    }

    /// Returns the key's public half, with its comment.
    pub fn public(&self) -> &PublicKey {
        &self.0.public
    }

    /// Returns the key's fingerprint, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// Returns a signature of the message for this purpose, as `ssh-keygen -Y sign` makes it
    /// (PROTOCOL.sshsig, armored, SHA-512).
    ///
    /// # Errors
    /// [`SshError`].
    pub async fn sign(&self, namespace: &str, message: &[u8]) -> Result<String, SshError> {
        let refused = |error: ssh_key::Error| SshError::Refused {
            key: self.fingerprint(),
            reason: error.to_string(),
        };
        let sign = |key: &PrivateKey| sign_here(key, namespace, message);
        let signature = match &self.0.held {
            Held::Here(key) => sign(key).map_err(refused)?,
            Held::Locked { agent, .. } => match self.kept_by(agent.as_ref()).await {
                Some(agent) => self.sign_by(agent, namespace, message).await?,
                None => sign(&self.unlocked().await?).map_err(refused)?,
            },
            Held::InAgent { agent, path } => {
                if let Some(path) = path
                    && !agent.keeps(self.public().key_data()).await?
                {
                    return Err(SshError::NotInAgent { path: path.clone() });
                }
                self.sign_by(agent, namespace, message).await?
            }
        };
        signature.to_pem(LineEnding::LF).map_err(refused)
    }

    /// An agent that is gone is no reason not to ask for a passphrase.
    async fn kept_by<'a>(&self, agent: Option<&'a Agent>) -> Option<&'a Agent> {
        let agent = agent?;
        let keeps = agent.keeps(self.public().key_data()).await;
        keeps.unwrap_or(false).then_some(agent)
    }

    async fn sign_by(
        &self,
        agent: &Agent,
        namespace: &str,
        message: &[u8],
    ) -> Result<SshSig, SshError> {
        let refused = |error: ssh_key::Error| SshError::Refused {
            key: self.fingerprint(),
            reason: error.to_string(),
        };
        let key = self.public().key_data();
        let data = SshSig::signed_data(namespace, HashAlg::Sha512, message).map_err(refused)?;
        let signature = agent.sign(key, data).await?;
        SshSig::new(key.clone(), namespace, HashAlg::Sha512, signature).map_err(refused)
    }

    /// Somebody types, and the key derivation takes a while: neither is for an async thread.
    async fn unlocked(&self) -> Result<PrivateKey, SshError> {
        let this = self.clone();
        let unlocking = tokio::task::spawn_blocking(move || this.unlock());
        unlocking
            .await
            .unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
    }

    fn unlock(&self) -> Result<PrivateKey, SshError> {
        let Held::Locked {
            path,
            key,
            passphrase,
            unlocked,
            ..
        } = &self.0.held
        else {
            unreachable!("called for locked keys alone");
        };
        if let Some(key) = unlocked.get() {
            return Ok(key.clone());
        }
        let path = path.clone();
        let Some(typed) = passphrase.ask(&path) else {
            return Err(SshError::NoPassphrase { path });
        };
        let found = ecdsa::decrypt(key, typed.reveal());
        let found = found.map_err(|_| SshError::WrongPassphrase { path })?;
        Ok(unlocked.get_or_init(|| found).clone())
    }
}

fn sign_here(key: &PrivateKey, namespace: &str, message: &[u8]) -> ssh_key::Result<SshSig> {
    let Some(pair) = key.key_data().rsa() else {
        return key.sign(namespace, HashAlg::Sha512, message);
    };
    let data = SshSig::signed_data(namespace, HashAlg::Sha512, message)?;
    let public = key.public_key().key_data().clone();
    SshSig::new(public, namespace, HashAlg::Sha512, rsa::sign(pair, &data)?)
}

impl PartialEq for Signer {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
    }
}

impl Eq for Signer {}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Signer({})", self.fingerprint())
    }
}
