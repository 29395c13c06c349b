//! An ssh-agent: a program that keeps keys and signs with them (draft-ietf-sshm-ssh-agent), found
//! where `SSH_AUTH_SOCK` says.

use std::{fmt, path::PathBuf, time::Duration};

use ssh_agent_lib::{
    agent::Session as _,
    client::Client,
    proto::{PublicCredential, SignRequest, signature::RSA_SHA2_512},
};
use ssh_key::{Algorithm, PublicKey, Signature, public::KeyData};
use tokio::{net::UnixStream, time::timeout};

use super::{Signer, SshError};

/// Somebody may have to touch a key, or to confirm in a window.
const PATIENCE: Duration = Duration::from_secs(120);

/// An ssh-agent, which is asked anew each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    socket: PathBuf,
}

impl Agent {
    /// Returns the agent that listens there. Connects to nothing yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Returns the keys that it keeps, in its order. Keys in certificates are passed over: what
    /// they sign cannot be told from what the key itself signs.
    ///
    /// # Errors
    /// [`SshError::Agent`].
    pub async fn keys(&self) -> Result<Vec<Signer>, SshError> {
        let mut client = self.connect().await?;
        let identities = client.request_identities().await;
        let identities = identities.map_err(|error| self.failed(error))?;
        let key = |identity: ssh_agent_lib::proto::Identity| match identity.credential {
            PublicCredential::Key(key) => {
                let public = PublicKey::new(key, identity.comment);
                Some(Signer::of_agent(self.clone(), public, None))
            }
            PublicCredential::Cert(_) => None,
        };
        Ok(identities.into_iter().filter_map(key).collect())
    }

    /// Whether it keeps this key.
    pub(super) async fn keeps(&self, key: &KeyData) -> Result<bool, SshError> {
        let keys = self.keys().await?;
        Ok(keys.iter().any(|kept| kept.public().key_data() == key))
    }

    /// Returns its signature of these bytes.
    pub(super) async fn sign(&self, key: &KeyData, data: Vec<u8>) -> Result<Signature, SshError> {
        let flags = match key.algorithm() {
            // Without it, it would be one with SHA-1.
            Algorithm::Rsa { .. } => RSA_SHA2_512,
            _ => 0,
        };
        let mut client = self.connect().await?;
        let signing = client.sign(SignRequest {
            credential: PublicCredential::Key(key.clone()),
            data,
            flags,
        });
        match timeout(PATIENCE, signing).await {
            Ok(signed) => signed.map_err(|error| self.failed(error)),
            Err(elapsed) => Err(self.failed(elapsed)),
        }
    }

    async fn connect(&self) -> Result<Client<UnixStream>, SshError> {
        let stream = UnixStream::connect(&self.socket).await;
        stream
            .map(Client::new)
            .map_err(|error| self.failed(error.kind()))
    }

    fn failed(&self, reason: impl fmt::Display) -> SshError {
        SshError::Agent {
            socket: self.socket.clone(),
            reason: reason.to_string(),
        }
    }
}
