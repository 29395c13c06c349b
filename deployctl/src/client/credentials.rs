//! Who the client is: nobody, a user with a password or a token, or whoever has an SSH key. Given to [`super::Options`] by the programs.

use std::fmt;

use crate::ssh::{Agent, Signer};

/// A text that no log and no message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns the secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, to be sent and not kept.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<redacted>")
    }
}

/// What a client proves itself with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    #[default]
    Anonymous,
    /// A user name and a password, for Basic and for token services.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token that token services give others for (RFC 6749 §6).
    Refresh(Secret),
    /// An SSH key, which signs for tokens.
    Key(Signer),
    /// Any key of an ssh-agent, for registries that take signatures.
    Agent(Agent),
}
