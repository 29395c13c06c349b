//! What somebody signs with an SSH key to get a token. Made by clients, made again by the registry,
//! which compares nothing else than the signature.

use jiff::Timestamp;

/// The namespace of the signature (PROTOCOL.sshsig §2): what is signed for one purpose is of no
/// use for another.
pub const NAMESPACE: &str = "token@deploy-tools";
/// The `grant_type` of a request for a token by a signature (RFC 6749 §4.5).
pub const GRANT_TYPE: &str = "urn:deploy-tools:grant-type:ssh-signature";
/// Where nonces are had from, below the token endpoint.
pub const NONCE_PATH: &str = "/nonce";

/// What is signed: who is asked for which scopes, when, and on which occasion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The service of the challenge.
    pub service: &'a str,
    /// Whom the client takes the registry for: the fingerprint of the key that it pinned, or else
    /// `host[:port]` as it was told. A signature that one registry is shown is of no use at
    /// another one, which knows itself by other names.
    pub registry: &'a str,
    /// The scopes, with spaces between them.
    pub scope: &'a str,
    /// When, to the second.
    pub time: Timestamp,
    /// What the registry gave out for this.
    pub nonce: &'a str,
}

impl Statement<'_> {
    /// Returns the very text that is signed; nothing where a field holds a control character, with
    /// which it could be read as another statement.
    pub fn text(&self) -> Option<String> {
        let Self {
            service,
            registry,
            scope,
            time,
            nonce,
        } = *self;
        let fields = [service, registry, scope, nonce];
        if fields
            .iter()
            .any(|field| field.contains(|character: char| character.is_control()))
        {
            return None;
        }
        let time = time.as_second();
        Some(format!(
            "deploy-tools token request 1\nservice {service}\nregistry {registry}\nscope {scope}\ntime {time}\nnonce {nonce}\n"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_statements_read_alike() {
        let statement = Statement {
            service: "s",
            registry: "a:1",
            scope: "repository:x:pull",
            time: Timestamp::UNIX_EPOCH,
            nonce: "n",
        };
        let text = statement.text().unwrap();
        assert_eq!(
            text,
            "deploy-tools token request 1\nservice s\nregistry a:1\nscope repository:x:pull\ntime 0\nnonce n\n"
        );
        let service = "s\nregistry b:1\nscope y";
        let forged = Statement {
            service,
            ..statement
        };
        assert_eq!(forged.text(), None);
    }
}
