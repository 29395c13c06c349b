//! What somebody signs with an SSH key to get a token. Made by clients, made again by the registry,
//! which compares nothing else than the signature.

use std::fmt;

use jiff::Timestamp;

/// The namespace of the signature (PROTOCOL.sshsig §2): what is signed for one purpose is of no
/// use for another.
pub const NAMESPACE: &str = "token@deploy-tools";
/// The `grant_type` of a request for a token by a signature (RFC 6749 §4.5).
pub const GRANT_TYPE: &str = "urn:deploy-tools:grant-type:ssh-signature";
/// Where nonces are had from, below the token endpoint.
pub const NONCE_PATH: &str = "/nonce";

/// What is signed: who is asked for which scopes, when, and on which occasion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The service of the challenge.
    pub service: &'a str,
    /// The realm of the challenge, which has the registry's name: a signature for one registry is
    /// of no use to another one that it was shown to.
    pub realm: &'a str,
    /// The scopes, with spaces between them.
    pub scope: &'a str,
    /// When, to the second.
    pub time: Timestamp,
    /// What the registry gave out for this.
    pub nonce: &'a str,
}

impl fmt::Display for Statement<'_> {
    /// The very bytes that are signed.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service,
            realm,
            scope,
            time,
            nonce,
        } = self;
        let time = time.as_second();
        write!(
            formatter,
            "deploy-tools token request 1\nservice {service}\nrealm {realm}\nscope {scope}\ntime {time}\nnonce {nonce}\n"
        )
    }
}
