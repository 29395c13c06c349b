//! A token service: the one of the distribution project ("Token Authentication"), and what
//! registries of ours add to it for the keys of SSH.

use std::time::Duration;

use deploy_spec::{
    Envelope,
    login::{GRANT_TYPE, NONCE_PATH},
};
use http::{Method, StatusCode, header::AUTHORIZATION};
use reqwest::Response;
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use super::{Bearer, challenge::Signed};
use crate::client::{
    ClientError, RetryPolicy, Secret,
    error::innermost,
    retry::{is_retryable, retry_after},
};

/// More than any token has.
const BYTES_MAX: usize = 1024 * 1024;
/// What a token without a time is good for, as the specification has it.
const LIFE: Duration = Duration::from_secs(60);
/// What clients call themselves there.
const CLIENT: &str = "deployctl";

/// Asks token services.
pub(super) struct TokenService {
    registry: Url,
    /// What goes to the registry.
    http: reqwest::Client,
    /// What goes to others, who have other certificates.
    elsewhere: OnceCell<reqwest::Client>,
    policy: RetryPolicy,
}

/// What a token is asked for with.
pub(super) enum Grant<'a> {
    Nobody,
    /// A header.
    Basic(&'a str),
    Refresh(&'a Secret),
    Signature(&'a Signed),
}

/// A token.
pub(super) struct Answer {
    pub(super) token: Secret,
    pub(super) life: Duration,
    pub(super) refresh: Option<Secret>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct Nonce {
    nonce: String,
}

impl TokenService {
    pub(super) fn new(registry: Url, http: reqwest::Client, policy: RetryPolicy) -> Self {
        Self {
            registry,
            http,
            elsewhere: OnceCell::new(),
            policy,
        }
    }

    /// Refuses a service that is asked in the clear by a registry that is not.
    pub(super) fn check(&self, realm: &Url, operation: &str) -> Result<(), ClientError> {
        let secure = realm.scheme() == "https";
        let as_secure = realm.scheme() == "http" && self.registry.scheme() == "http";
        match secure || as_secure {
            true => Ok(()),
            false => Err(ClientError::Protocol {
                operation: operation.to_owned(),
                reason: format!("its token service `{realm}` is less secure than itself"),
            }),
        }
    }

    /// Returns what is to be signed; nothing from a service that knows no signatures.
    pub(super) async fn nonce(
        &self,
        bearer: &Bearer,
        operation: &str,
    ) -> Result<Option<String>, ClientError> {
        let mut url = bearer.realm.clone();
        url.set_path(&format!("{}{NONCE_PATH}", url.path().trim_end_matches('/')));
        let response = self.send(Method::GET, &url, None, None, operation).await?;
        let status = response.status();
        let told = retry_after(response.headers());
        let body = self.body(response, operation).await?;
        if is_retryable(status) {
            return Err(self.refused(&url, status, told, &body, false, operation));
        }
        if !status.is_success() {
            return Ok(None);
        }
        let nonce: Option<Nonce> = serde_json::from_slice(&body).ok();
        Ok(nonce.map(|nonce| nonce.nonce))
    }

    /// Returns a token.
    ///
    /// # Errors
    /// [`ClientError::Unauthorized`] where it refuses.
    pub(super) async fn ask(
        &self,
        bearer: &Bearer,
        scope: &str,
        grant: Grant<'_>,
        operation: &str,
    ) -> Result<Answer, ClientError> {
        let mut fields = Vec::new();
        if let Some(service) = &bearer.service {
            fields.push(("service", service.clone()));
        }
        let anonymous = matches!(grant, Grant::Nobody);
        let scopes = scope.split_whitespace().map(str::to_owned);
        let response = match grant {
            Grant::Nobody | Grant::Basic(_) => {
                fields.extend(scopes.map(|scope| ("scope", scope)));
                let mut url = bearer.realm.clone();
                url.query_pairs_mut().extend_pairs(fields);
                let header = match grant {
                    Grant::Basic(header) => {
                        url.query_pairs_mut().append_pair("offline_token", "true");
                        url.query_pairs_mut().append_pair("client_id", CLIENT);
                        Some(header)
                    }
                    _ => None,
                };
                self.send(Method::GET, &url, header, None, operation)
                    .await?
            }
            Grant::Refresh(token) => {
                fields.push(("grant_type", "refresh_token".to_owned()));
                fields.push(("refresh_token", token.reveal().to_owned()));
                self.post(bearer, scope, fields, operation).await?
            }
            Grant::Signature(signed) => {
                fields.push(("grant_type", GRANT_TYPE.to_owned()));
                fields.push(("registry", signed.registry.clone()));
                fields.push(("time", signed.time.as_second().to_string()));
                fields.push(("nonce", signed.nonce.clone()));
                fields.push(("signature", signed.signature.clone()));
                // So that one signature is enough for many scopes.
                fields.push(("access_type", "offline".to_owned()));
                self.post(bearer, scope, fields, operation).await?
            }
        };
        let status = response.status();
        let told = retry_after(response.headers());
        let body = self.body(response, operation).await?;
        if !status.is_success() {
            return Err(self.refused(&bearer.realm, status, told, &body, anonymous, operation));
        }
        let unreadable = || ClientError::Protocol {
            operation: operation.to_owned(),
            reason: format!("its token service `{}` sent no token", bearer.realm),
        };
        let answer: Token = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let token = some(answer.token).or(some(answer.access_token));
        Ok(Answer {
            token: Secret::new(token.ok_or_else(unreadable)?),
            life: answer.expires_in.map_or(LIFE, Duration::from_secs),
            refresh: some(answer.refresh_token).map(Secret::new),
        })
    }

    async fn post(
        &self,
        bearer: &Bearer,
        scope: &str,
        mut fields: Vec<(&str, String)>,
        operation: &str,
    ) -> Result<Response, ClientError> {
        fields.push(("scope", scope.to_owned()));
        fields.push(("client_id", CLIENT.to_owned()));
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        self.send(Method::POST, &bearer.realm, None, Some(form), operation)
            .await
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        authorization: Option<&str>,
        form: Option<String>,
        operation: &str,
    ) -> Result<Response, ClientError> {
        let http = match url.origin() == self.registry.origin() {
            true => &self.http,
            false => self.elsewhere.get_or_try_init(|| self.connect()).await?,
        };
        let mut failed = 0;
        loop {
            let mut request = http.request(method.clone(), url.clone());
            if let Some(header) = authorization.map(str::to_owned).and_then(super::sensitive) {
                request = request.header(AUTHORIZATION, header);
            }
            if let Some(form) = &form {
                let kind = "application/x-www-form-urlencoded";
                request = request.header(http::header::CONTENT_TYPE, kind);
                request = request.body(form.clone());
            }
            failed += 1;
            let again = failed < self.policy.attempts;
            let delay = match request.timeout(self.policy.progress_timeout).send().await {
                Ok(response) if again && is_retryable(response.status()) => {
                    let told = retry_after(response.headers());
                    match self.policy.delay_after(failed, told) {
                        Some(delay) => delay,
                        None => return Ok(response),
                    }
                }
                Ok(response) => return Ok(response),
                Err(_) if again => self.policy.delay(failed),
                Err(error) => {
                    return Err(ClientError::Interrupted {
                        operation: operation.to_owned(),
                        registry: url.origin().ascii_serialization(),
                        reason: innermost(&error),
                    });
                }
            };
            tokio::time::sleep(delay).await;
        }
    }

    async fn connect(&self) -> Result<reqwest::Client, ClientError> {
        reqwest::Client::builder()
            .user_agent(concat!("deployctl/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.policy.connect_timeout)
            .build()
            .map_err(|error| ClientError::Setup(innermost(&error)))
    }

    async fn body(&self, mut response: Response, operation: &str) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => return Ok(body),
                Ok(Some(chunk)) if body.len() + chunk.len() <= BYTES_MAX => {
                    body.extend_from_slice(&chunk);
                }
                Ok(Some(_)) => {
                    return Err(ClientError::TooLarge {
                        operation: operation.to_owned(),
                        limit: BYTES_MAX as u64,
                    });
                }
                Err(error) => {
                    return Err(ClientError::Interrupted {
                        operation: operation.to_owned(),
                        registry: self.registry.origin().ascii_serialization(),
                        reason: innermost(&error),
                    });
                }
            }
        }
    }

    fn refused(
        &self,
        realm: &Url,
        status: StatusCode,
        told: Option<Duration>,
        body: &[u8],
        anonymous: bool,
        operation: &str,
    ) -> ClientError {
        let envelope = Envelope::parse(body).unwrap_or_default();
        let operation = operation.to_owned();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return ClientError::Refused {
                operation,
                status,
                envelope,
                retry_after: told,
            };
        }
        let reason = match envelope.to_string() {
            said if said.is_empty() => format!("its token service answered {status}"),
            said => said,
        };
        ClientError::Unauthorized {
            operation,
            registry: realm.origin().ascii_serialization(),
            reason,
            anonymous,
        }
    }
}
