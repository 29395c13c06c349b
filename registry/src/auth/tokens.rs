//! Tokens: what somebody may do for some minutes, signed with the registry's key (JWT, RFC 7519,
//! ES256), so that a registry needs nothing but its key to know them, and its replicas know them
//! too. Made by the token endpoint, read with every request.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use deploy_spec::{
    Actions, Fingerprint, RepositoryName,
    scope::{Resource, Scope},
};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::seen::Seen;
use crate::identity::Identity;

/// Who made a token, and whom it is for: other programs' tokens of the same key are none.
const ISSUER: &str = "deploy-registry";
/// How much later than it says a token expires: replicas' clocks are a little apart.
const LEEWAY: SignedDuration = SignedDuration::from_secs(5);
/// More than a token with hundreds of scopes has.
const BYTES_MAX: usize = 64 << 10;

/// Who somebody proved to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Nobody in particular.
    Anonymous,
    /// Whoever has the key with this fingerprint.
    Key(Fingerprint),
    /// Whoever knows the password of this name.
    User(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => formatter.write_str("anonymous"),
            Self::Key(fingerprint) => write!(formatter, "key:{fingerprint}"),
            Self::User(name) => write!(formatter, "user:{name}"),
        }
    }
}

impl FromStr for Subject {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        match text.split_once(':') {
            None if text == "anonymous" => Ok(Self::Anonymous),
            Some(("key", fingerprint)) => {
                let fingerprint = fingerprint.parse().map_err(|_| TokenError::Foreign)?;
                Ok(Self::Key(fingerprint))
            }
            Some(("user", name)) => Ok(Self::User(name.to_owned())),
            _ => Err(TokenError::Foreign),
        }
    }
}

/// Who somebody proved to be, and with what, where that can be changed: tokens are none any more
/// when it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Who he is.
    pub subject: Subject,
    /// What stands for his password.
    pub(super) password: Option<String>,
}

impl Proven {
    /// Returns nobody in particular, which needs no proof.
    pub fn anonymous() -> Self {
        Subject::Anonymous.into()
    }
}

impl From<Subject> for Proven {
    /// A key is its own proof; of a user this is none.
    fn from(subject: Subject) -> Self {
        Self {
            subject,
            password: None,
        }
    }
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// Requests.
    Access,
    /// More tokens.
    Refresh,
    /// One login; it is no token, and has nobody's name.
    Nonce,
}

/// As it stands in a token.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    kind: Kind,
    /// Seconds since 1970.
    iat: i64,
    exp: i64,
    /// What stands for the password that it was had with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    /// As the distribution project's tokens have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    access: Vec<Claim>,
}

impl Claims {
    fn proven(self) -> Result<Proven, TokenError> {
        Ok(Proven {
            subject: self.sub.parse()?,
            password: self.password,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Claim {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

/// Why a token is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It was made by another key, for something else, or changed.
    #[error("the token is none of this registry")]
    Foreign,
}

/// Makes and reads tokens.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    seen: Seen<Access>,
}

/// What a token for requests says.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    /// Who it is of.
    pub proven: Proven,
    /// What it allows of.
    pub scopes: Vec<Scope>,
}

impl Tokens {
    /// Returns what makes tokens with this key.
    pub fn of(identity: &Identity) -> Self {
        let (x, y) = identity.coordinates();
        let component = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let decoding = DecodingKey::from_ec_components(&component(x), &component(y));
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // Its time is compared with that of whoever reads it.
        validation.validate_exp = false;
        Self {
            encoding: EncodingKey::from_ec_der(identity.private_key().secret_der()),
            decoding: decoding.expect("a key has both coordinates"),
            validation,
            seen: Seen::default(),
        }
    }

    /// Returns a token that allows of these scopes for so long.
    pub fn access(
        &self,
        proven: &Proven,
        scopes: &[Scope],
        now: Timestamp,
        life: Duration,
    ) -> String {
        let claim = |scope: &Scope| Claim {
            kind: match scope.resource {
                Resource::Repository(_) => "repository",
                Resource::Catalog | Resource::Audit | Resource::Blobs => "registry",
            }
            .to_owned(),
            name: match &scope.resource {
                Resource::Repository(name) => name.to_string(),
                Resource::Catalog => "catalog".to_owned(),
                Resource::Audit => "audit".to_owned(),
                Resource::Blobs => "blobs".to_owned(),
            },
            actions: scope
                .actions
                .names()
                .into_iter()
                .map(str::to_owned)
                .collect(),
        };
        let access = scopes.iter().map(claim).collect();
        self.sign(proven, Kind::Access, access, now, life)
    }

    /// Returns a token that other tokens can be had with for so long.
    pub fn refresh(&self, proven: &Proven, now: Timestamp, life: Duration) -> String {
        self.sign(proven, Kind::Refresh, Vec::new(), now, life)
    }

    /// Returns what is good for one login within so long.
    pub fn nonce(&self, now: Timestamp, life: Duration) -> String {
        let random: [u8; 16] = rand::random();
        let name = Subject::User(URL_SAFE_NO_PAD.encode(random));
        self.sign(&name.into(), Kind::Nonce, Vec::new(), now, life)
    }

    /// Returns until when a nonce is good.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read_nonce(&self, nonce: &str, now: Timestamp) -> Result<Timestamp, TokenError> {
        let (_, expires) = self.read(nonce, Kind::Nonce, now)?;
        Ok(expires)
    }

    fn sign(
        &self,
        proven: &Proven,
        kind: Kind,
        access: Vec<Claim>,
        now: Timestamp,
        life: Duration,
    ) -> String {
        let iat = now.as_second();
        let life = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
            sub: proven.subject.to_string(),
            kind,
            iat,
            exp: iat.saturating_add(life),
            password: proven.password.clone(),
            access,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.encoding);
        token.expect("claims are JSON, and the key is one on P-256")
    }

    /// Returns what a token for requests says at this time. Its signature is verified once; whether
    /// whoever it is of is still known is for somebody else to find out.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read_access(&self, token: &str, now: Timestamp) -> Result<Arc<Access>, TokenError> {
        if let Some(seen) = self.seen.get(token, now) {
            return Ok(seen);
        }
        let (claims, expires) = self.read(token, Kind::Access, now)?;
        let scope = |claim: &Claim| {
            let resource = match claim.kind.as_str() {
                "repository" => Resource::Repository(claim.name.parse::<RepositoryName>().ok()?),
                "registry" if claim.name == "catalog" => Resource::Catalog,
                "registry" if claim.name == "audit" => Resource::Audit,
                "registry" if claim.name == "blobs" => Resource::Blobs,
                _ => return None,
            };
            let actions: Actions = claim.actions.iter().map(String::as_str).collect();
            Some(Scope { resource, actions })
        };
        let scopes = claims.access.iter().filter_map(scope).collect();
        let proven = claims.proven()?;
        let access = Arc::new(Access { proven, scopes });
        self.seen.add(token, Arc::clone(&access), expires, now);
        Ok(access)
    }

    /// Returns who a token for more tokens is of.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read_refresh(&self, token: &str, now: Timestamp) -> Result<Proven, TokenError> {
        let (claims, _) = self.read(token, Kind::Refresh, now)?;
        claims.proven()
    }

    /// Returns what stands in a token, and from when on it is none any more.
    fn read(
        &self,
        token: &str,
        kind: Kind,
        now: Timestamp,
    ) -> Result<(Claims, Timestamp), TokenError> {
        if token.len() > BYTES_MAX {
            return Err(TokenError::Foreign);
        }
        let read = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation);
        let claims = read.map_err(|_| TokenError::Foreign)?.claims;
        let expires = Timestamp::from_second(claims.exp).map_err(|_| TokenError::Foreign)?;
        let expires = expires
            .saturating_add(LEEWAY)
            .map_err(|_| TokenError::Foreign)?;
        match claims.kind == kind {
            false => Err(TokenError::Foreign),
            true if now >= expires => Err(TokenError::Expired),
            true => Ok((claims, expires)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(300);

    fn scopes() -> Vec<Scope> {
        ["repository:configs/a:pull,push", "registry:catalog:*"]
            .map(|scope| scope.parse().unwrap())
            .to_vec()
    }

    fn key() -> Proven {
        let fingerprint = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        Subject::Key(fingerprint.parse().unwrap()).into()
    }

    #[test]
    fn tokens_say_what_they_were_made_with_wherever_the_key_is_the_same() {
        let identity = Identity::generate();
        let (tokens, replica) = (Tokens::of(&identity), Tokens::of(&identity));
        let now = Timestamp::now();
        let jane = Proven {
            subject: Subject::User("jane".to_owned()),
            password: Some("0123456789abcdef".to_owned()),
        };
        for proven in [key(), Proven::anonymous(), jane] {
            let token = tokens.access(&proven, &scopes(), now, LIFE);
            let says = Access {
                proven: proven.clone(),
                scopes: scopes(),
            };
            for _ in 0..2 {
                assert_eq!(replica.read_access(&token, now).as_deref(), Ok(&says));
            }
            assert_eq!(replica.read_refresh(&token, now), Err(TokenError::Foreign));
            let token = tokens.refresh(&proven, now, LIFE);
            assert_eq!(replica.read_refresh(&token, now), Ok(proven));
            assert_eq!(replica.read_access(&token, now), Err(TokenError::Foreign));
        }
    }

    #[test]
    fn tokens_of_others_and_of_other_times_are_none() {
        let identity = Identity::generate();
        let tokens = Tokens::of(&identity);
        // To the second, as it stands in tokens.
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        let token = tokens.access(&key(), &scopes(), now, LIFE);
        let other = Tokens::of(&Identity::generate());
        assert_eq!(other.read_access(&token, now), Err(TokenError::Foreign));
        // Whether it was seen before or not.
        for tokens in [&tokens, &Tokens::of(&identity)] {
            for (seconds, expected) in [
                (0, Ok(())),
                (304, Ok(())),
                (305, Err(TokenError::Expired)),
                (304, Ok(())),
            ] {
                let then = now + SignedDuration::from_secs(seconds);
                let read = tokens.read_access(&token, then).map(drop);
                assert_eq!(read, expected, "{seconds}");
            }
        }
        // Every character counts, but for the last bits of the last one.
        for at in 0..token.len() - 1 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(
                tokens.read_access(&changed, now),
                Err(TokenError::Foreign),
                "{at}"
            );
        }
        let claims = token.split('.').nth(1).unwrap();
        let unsigned = format!(
            "{}.{claims}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#)
        );
        for bad in ["", "a.b.c", &unsigned, &"x".repeat(BYTES_MAX + 1)] {
            assert_eq!(tokens.read_access(bad, now), Err(TokenError::Foreign));
        }
    }
}
