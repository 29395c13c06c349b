//! Who the client is, in the words that the registry asked for: Basic, or a bearer token that
//! `oci-client` fetches from the registry's token service. Used by `transport` alone.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use deploy_spec::RepositoryName;
use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use oci_client::{
    Reference, RegistryOperation,
    client::{ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};
use tokio::sync::Mutex;

use super::{ClientError, Credentials, RetryPolicy, error::innermost};

/// What a request wants to do; tokens are granted for one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Pull,
    Push,
}

/// How the registry is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Plain,
    Tls,
    /// TLS to a key that no authority vouches for, which oci-client cannot be told.
    Pinned,
}

/// The right that a request needs: an access to a repository, or to none in particular.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) repository: Option<RepositoryName>,
    pub(super) access: Access,
}

/// Holds the credentials, and one header value per scope once the registry has asked for it.
pub(super) struct Authenticator {
    registry: String,
    protocol: Protocol,
    credentials: Credentials,
    pub(super) client: oci_client::Client,
    headers: Mutex<HashMap<Scope, HeaderValue>>,
}

impl Authenticator {
    pub(super) fn new(
        registry: String,
        protocol: Protocol,
        credentials: Credentials,
        policy: &RetryPolicy,
    ) -> Result<Self, ClientError> {
        let config = ClientConfig {
            protocol: match protocol {
                Protocol::Plain => ClientProtocol::Http,
                Protocol::Tls | Protocol::Pinned => ClientProtocol::Https,
            },
            connect_timeout: Some(policy.connect_timeout),
            read_timeout: Some(policy.progress_timeout),
            ..ClientConfig::default()
        };
        let client = oci_client::Client::try_from(config)
            .map_err(|error| ClientError::Setup(innermost(&error)))?;
        Ok(Self {
            registry,
            protocol,
            credentials,
            client,
            headers: Mutex::default(),
        })
    }

    /// Returns the `Authorization` header for the scope, where the registry asked for one
    /// before.
    pub(super) async fn header(&self, scope: &Scope) -> Option<HeaderValue> {
        self.headers.lock().await.get(scope).cloned()
    }

    /// Returns a fresh header in answer to a 401; nothing where there is none to give.
    ///
    /// # Errors
    /// [`ClientError::Unauthorized`] where the token service refuses.
    pub(super) async fn answer(
        &self,
        scope: &Scope,
        challenge: &HeaderMap,
        operation: &str,
    ) -> Result<Option<HeaderValue>, ClientError> {
        let fresh = match scheme(challenge) {
            Some(Scheme::Basic) => self.basic(),
            Some(Scheme::Bearer) => self.bearer(scope, operation).await?,
            None => None,
        };
        let mut headers = self.headers.lock().await;
        match &fresh {
            Some(header) => headers.insert(scope.clone(), header.clone()),
            None => headers.remove(scope),
        };
        Ok(fresh)
    }

    /// Returns `oci-client`'s view of a repository, for its operations.
    pub(super) fn reference(&self, repository: &RepositoryName, digest: Option<&str>) -> Reference {
        let (registry, repository) = (self.registry.clone(), repository.to_string());
        match digest {
            Some(digest) => Reference::with_digest(registry, repository, digest.to_owned()),
            None => Reference::with_tag(registry, repository, "latest".to_owned()),
        }
    }

    fn registry_auth(&self) -> RegistryAuth {
        match &self.credentials {
            Credentials::Anonymous => RegistryAuth::Anonymous,
            Credentials::Basic { username, password } => {
                RegistryAuth::Basic(username.clone(), password.reveal().to_owned())
            }
        }
    }

    fn basic(&self) -> Option<HeaderValue> {
        let Credentials::Basic { username, password } = &self.credentials else {
            return None;
        };
        let pair = format!("{username}:{}", password.reveal());
        sensitive(format!("Basic {}", STANDARD.encode(pair)))
    }

    async fn bearer(
        &self,
        scope: &Scope,
        operation: &str,
    ) -> Result<Option<HeaderValue>, ClientError> {
        // A token is granted for a repository; the catalog's scope is one that oci-client
        // cannot ask for.
        let Some(repository) = &scope.repository else {
            return Ok(None);
        };
        let unauthorized = |reason| ClientError::Unauthorized {
            operation: operation.to_owned(),
            registry: self.registry.clone(),
            reason,
        };
        if self.protocol == Protocol::Pinned {
            let reason = "tokens are not fetched from a registry with a pinned key".to_owned();
            return Err(unauthorized(reason));
        }
        let access = match scope.access {
            Access::Pull => RegistryOperation::Pull,
            Access::Push => RegistryOperation::Push,
        };
        let reference = self.reference(repository, None);
        let token = self
            .client
            .auth(&reference, &self.registry_auth(), access)
            .await
            .map_err(|error| unauthorized(innermost(&error)))?;
        Ok(token.and_then(|token| sensitive(format!("Bearer {token}"))))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Basic,
    Bearer,
}

/// Returns the scheme that is asked for, the stronger one where both are.
fn scheme(headers: &HeaderMap) -> Option<Scheme> {
    let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
    let mut basic = None;
    for challenge in challenges.filter_map(|value| value.to_str().ok()) {
        let word = challenge.split_whitespace().next().unwrap_or_default();
        if word.eq_ignore_ascii_case("bearer") {
            return Some(Scheme::Bearer);
        }
        if word.eq_ignore_ascii_case("basic") {
            basic = Some(Scheme::Basic);
        }
    }
    basic
}

fn sensitive(text: String) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_names_the_scheme() {
        let asked = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
            }
            scheme(&headers)
        };
        assert_eq!(asked(&["Bearer realm=\"x\""]), Some(Scheme::Bearer));
        assert_eq!(asked(&["basic realm=x"]), Some(Scheme::Basic));
        assert_eq!(
            asked(&["Basic realm=x", "Bearer realm=x"]),
            Some(Scheme::Bearer)
        );
        assert_eq!(asked(&["Digest x"]), None);
        assert_eq!(asked(&[]), None);
    }
}
