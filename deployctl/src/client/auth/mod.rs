//! Who the client is, in the words that the registry asked for. Used by `transport` alone.
//!
//! ```text
//! challenge  what the registry asks for
//! scope      the right that a request needs
//! service    the registry's token service: what is asked and answered
//! ```

mod challenge;
mod scope;
mod service;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue};
use tokio::sync::{Mutex, RwLock};
use url::Url;

use super::{ClientError, Credentials, RetryPolicy, Secret};
use crate::ssh::Signer;
use challenge::{Bearer, Challenge};
pub(super) use scope::{Access, Scope};
use service::{Answer, Grant, TokenService};

/// A token that is good for less is got anew before a request begins with it.
const MARGIN: Duration = Duration::from_secs(30);
/// More keys than so many look like somebody who tries.
const KEYS_MAX: usize = 6;

/// The registry, as far as it matters for who the client is.
#[derive(Clone, Debug)]
pub(super) struct Party {
    /// As people write it, for messages.
    pub(super) address: String,
    /// Where its API is.
    pub(super) base: Url,
    /// What signatures call it: the fingerprint that is pinned, or `host[:port]`.
    pub(super) name: String,
    /// Whether somebody said that its connections are in the clear, and did not only leave that
    /// open.
    pub(super) is_plain_by_choice: bool,
}

/// Holds the credentials, and what they were exchanged for.
pub(super) struct Authenticator {
    party: Party,
    credentials: Credentials,
    service: TokenService,
    held: RwLock<HashMap<Scope, Held>>,
    /// What other tokens can be had with; taken by whoever is about to get one, so that several
    /// requests at once do not all sign.
    login: Mutex<Option<Secret>>,
}

/// What proving who one is gave.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// A token for requests, and how long it is good.
    pub token: Option<(Secret, Duration)>,
    /// What further tokens can be had with.
    pub refresh: Option<Secret>,
}

/// The header of requests with a scope.
#[derive(Clone, Debug)]
struct Held {
    header: HeaderValue,
    /// Until when, and what it was got for, where it ends.
    ends: Option<(Instant, Bearer)>,
}

impl Held {
    fn is_fresh(&self) -> bool {
        let fresh = |(until, _): &(Instant, Bearer)| Instant::now() < *until;
        self.ends.as_ref().is_none_or(fresh)
    }
}

impl Authenticator {
    /// Returns one for this registry. `http` is what its requests go through.
    pub(super) fn new(
        party: Party,
        credentials: Credentials,
        http: reqwest::Client,
        policy: RetryPolicy,
    ) -> Self {
        Self {
            service: TokenService::new(party.base.clone(), http, policy),
            party,
            credentials,
            held: RwLock::default(),
            login: Mutex::default(),
        }
    }

    /// Returns the `Authorization` header for the scope, where the registry asked for one before.
    /// One that is about to end is renewed: a request that has begun cannot be sent again where it
    /// streams its body.
    pub(super) async fn header(&self, scope: &Scope, operation: &str) -> Option<HeaderValue> {
        let held = self.held.read().await.get(scope).cloned()?;
        if held.is_fresh() {
            return Some(held.header);
        }
        let (_, bearer) = held.ends?;
        match Box::pin(self.bearer(scope, &bearer, operation)).await {
            Ok(held) => held.map(|held| held.header),
            // The registry will ask again, and then whoever needs it is told.
            Err(error) => {
                tracing::debug!(%error, "a token was not renewed");
                None
            }
        }
    }

    /// Returns a fresh header in answer to a 401; nothing where there is none to give.
    ///
    /// # Errors
    /// [`ClientError::Unauthorized`] where the token service refuses, [`ClientError::InTheClear`]
    /// where a secret would be sent for all to see, those of the token service otherwise.
    pub(super) async fn answer(
        &self,
        scope: &Scope,
        headers: &HeaderMap,
        operation: &str,
    ) -> Result<Option<HeaderValue>, ClientError> {
        // What was held did not help.
        self.held.write().await.remove(scope);
        let fresh = match Challenge::of(headers) {
            Some(Challenge::Basic) => {
                let held = self.basic(operation)?;
                if let Some(held) = &held {
                    self.held.write().await.insert(scope.clone(), held.clone());
                }
                held
            }
            Some(Challenge::Bearer(bearer)) => {
                // Rare, and large: no request should carry it along.
                Box::pin(self.bearer(scope, &bearer, operation)).await?
            }
            None => None,
        };
        Ok(fresh.map(|held| held.header))
    }

    fn basic(&self, operation: &str) -> Result<Option<Held>, ClientError> {
        let Credentials::Basic { username, password } = &self.credentials else {
            return Ok(None);
        };
        self.secrets_may_pass(operation)?;
        Ok(sensitive(basic(username, password)).map(|header| Held { header, ends: None }))
    }

    /// Gets a token, unless another request has got one meanwhile.
    async fn bearer(
        &self,
        scope: &Scope,
        bearer: &Bearer,
        operation: &str,
    ) -> Result<Option<Held>, ClientError> {
        let mut login = self.login.lock().await;
        if let Some(held) = self.held.read().await.get(scope)
            && held.is_fresh()
        {
            return Ok(Some(held.clone()));
        }
        self.service.check(&bearer.realm, operation)?;
        let wanted = scope.together(&bearer.scopes);
        let answer = self
            .exchange(&mut login, bearer, &wanted, operation)
            .await?;
        if answer.refresh.is_some() {
            *login = answer.refresh;
        }
        let Some(header) = sensitive(format!("Bearer {}", answer.token.reveal())) else {
            return Ok(None);
        };
        let life = answer.life.saturating_sub(MARGIN.min(answer.life / 4));
        let held = Held {
            header,
            ends: Some((Instant::now() + life, bearer.clone())),
        };
        self.held.write().await.insert(scope.clone(), held.clone());
        Ok(Some(held))
    }

    /// Gets a token that can be passed on; nothing from a registry that gives none.
    pub(super) async fn log_in(
        &self,
        scopes: &str,
        headers: &HeaderMap,
        operation: &str,
    ) -> Result<Option<Login>, ClientError> {
        let Some(Challenge::Bearer(bearer)) = Challenge::of(headers) else {
            return Ok(None);
        };
        self.service.check(&bearer.realm, operation)?;
        let mut held = None;
        let answer = Box::pin(self.exchange(&mut held, &bearer, scopes, operation)).await?;
        Ok(Some(Login {
            token: Some((answer.token, answer.life)),
            refresh: answer.refresh,
        }))
    }

    async fn exchange(
        &self,
        refresh: &mut Option<Secret>,
        bearer: &Bearer,
        scope: &str,
        operation: &str,
    ) -> Result<Answer, ClientError> {
        let held = refresh.take();
        let ask = |grant| self.service.ask(bearer, scope, grant, operation);
        if let Some(token) = &held {
            match ask(Grant::Refresh(token)).await {
                Ok(answer) => {
                    *refresh = held;
                    return Ok(answer);
                }
                // It has ended, most likely.
                Err(ClientError::Unauthorized { .. }) => {}
                Err(error) => {
                    *refresh = held;
                    return Err(error);
                }
            }
        }
        if self.credentials != Credentials::Anonymous {
            self.secrets_may_pass(operation)?;
        }
        match &self.credentials {
            Credentials::Anonymous => ask(Grant::Nobody).await,
            Credentials::Basic { username, password } => {
                ask(Grant::Basic(&basic(username, password))).await
            }
            Credentials::Refresh(token) => ask(Grant::Refresh(token)).await,
            Credentials::Key(key) => {
                let keys = std::slice::from_ref(key);
                self.sign_in(keys, bearer, scope, operation).await
            }
            Credentials::Agent(agent) => match agent.keys().await {
                Ok(keys) => self.sign_in(&keys, bearer, scope, operation).await,
                // Nobody said that it is there for this.
                Err(error) => {
                    tracing::debug!(%error, "no key is used");
                    ask(Grant::Nobody).await
                }
            },
        }
    }

    /// Tries key after key; nobody's token where the service knows no signatures.
    async fn sign_in(
        &self,
        keys: &[Signer],
        bearer: &Bearer,
        scope: &str,
        operation: &str,
    ) -> Result<Answer, ClientError> {
        // A signature is for the registry itself: whom else it names, it may not be shown to.
        let is_its_own = bearer.realm.origin() == self.party.base.origin();
        let mut refused = None;
        for key in keys.iter().take(KEYS_MAX) {
            let nonce = match is_its_own {
                true => self.service.nonce(bearer, operation).await?,
                false => None,
            };
            let Some(nonce) = nonce else {
                break;
            };
            let signed = bearer.sign(key, &self.party.name, scope, &nonce).await;
            let signed = signed.map_err(|source| ClientError::Key {
                operation: operation.to_owned(),
                source,
            })?;
            let grant = Grant::Signature(&signed);
            match self.service.ask(bearer, scope, grant, operation).await {
                Err(ClientError::Unauthorized { reason, .. }) => refused = Some(reason),
                answer => return answer,
            }
        }
        let Some(reason) = refused else {
            return self
                .service
                .ask(bearer, scope, Grant::Nobody, operation)
                .await;
        };
        let which = match keys {
            [key] => format!("key `{}`", key.fingerprint()),
            keys => format!("any of {} keys of the ssh-agent", keys.len().min(KEYS_MAX)),
        };
        Err(ClientError::Unauthorized {
            operation: operation.to_owned(),
            registry: self.party.address.clone(),
            reason: format!("it does not take {which}: {reason}"),
            anonymous: false,
        })
    }

    /// Whether there is nothing to prove oneself with.
    pub(super) fn is_anonymous(&self) -> bool {
        self.credentials == Credentials::Anonymous
    }

    /// Over plain HTTP secrets go where somebody wrote `http://`, and nowhere else.
    fn secrets_may_pass(&self, operation: &str) -> Result<(), ClientError> {
        if self.party.base.scheme() == "https" || self.party.is_plain_by_choice {
            return Ok(());
        }
        Err(ClientError::InTheClear {
            operation: operation.to_owned(),
            registry: self.party.address.clone(),
        })
    }
}

fn basic(username: &str, password: &Secret) -> String {
    let pair = format!("{username}:{}", password.reveal());
    format!("Basic {}", STANDARD.encode(pair))
}

/// Returns the text as a header that no log shows; nothing where no header can hold it.
fn sensitive(text: String) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}
