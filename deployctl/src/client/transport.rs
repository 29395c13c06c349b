//! Every request of the client: authenticated, tried again, watched for progress.
//! Used by the files that know the API's endpoints.

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use deploy_spec::{Envelope, ErrorCode};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use reqwest::{ClientBuilder, Response, redirect, tls::TlsInfo};
use tokio::sync::OnceCell;
use url::Url;

use super::{
    Address, ClientError, Options, RetryPolicy,
    auth::{Authenticator, Login, Party, Scope},
    error::innermost,
    pin,
    rate::Rate,
    retry::{Activity, is_retryable, retry_after},
};

/// The most that is read of an answer that reports an error.
const ERROR_BODY_MAX: u64 = 64 * 1024;

/// One registry's connection: the HTTP client, who we are, how patient.
pub(super) struct Transport {
    pub(super) address: Address,
    pub(super) base: Url,
    pub(super) http: reqwest::Client,
    pub(super) auth: Authenticator,
    pub(super) policy: RetryPolicy,
    /// Where uploads are kept that are under way.
    pub(super) unfinished: Option<PathBuf>,
    rate: Option<Rate>,
    /// Set once somebody has answered who is a registry.
    contacted: OnceCell<()>,
}

/// A request that can be sent again.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// What is done, for messages: "get manifest `v1` of `configs/x`".
    pub(super) operation: String,
    pub(super) scope: Scope,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// How much longer than usual the answer may keep us waiting.
    pub(super) patience: Duration,
}

impl Call {
    pub(super) fn new(operation: String, scope: Scope, method: Method, url: Url) -> Self {
        Self {
            operation,
            scope,
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            patience: Duration::ZERO,
        }
    }

    /// Adds a header; one whose value no header can hold is a bug of the caller.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("digests, numbers and media types fit");
        self.headers.append(name, value);
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }
}

impl Transport {
    pub(super) fn new(address: Address, options: Options) -> Result<Self, ClientError> {
        let base = address.base(options.fingerprint.is_some())?;
        let builder = || http_client(&address, &base, &options);
        let build = |builder: ClientBuilder| {
            let built = builder.build();
            built.map_err(|error| ClientError::Setup(innermost(&error)))
        };
        let http = build(builder()?)?;
        // Whoever is sent a secret must not send it on.
        let without_detours = build(builder()?.redirect(redirect::Policy::none()))?;
        let party = Party {
            address: address.to_string(),
            base: base.clone(),
            name: match options.fingerprint {
                Some(fingerprint) => fingerprint.to_string(),
                None => address.authority(),
            },
            is_plain_by_choice: address.is_plain_by_choice(),
        };
        let (credentials, retry) = (options.credentials, options.retry.clone());
        let auth = Authenticator::new(party, credentials, without_detours, retry);
        Ok(Self {
            address,
            base,
            http,
            auth,
            policy: options.retry,
            unfinished: options.unfinished,
            rate: options.rate.map(Rate::new),
            contacted: OnceCell::new(),
        })
    }

    /// Returns the URL of an API path (`v2/…`).
    pub(super) fn url(&self, path: &str) -> Url {
        self.base
            .join(path)
            .expect("names, tags and digests are made of URL characters")
    }

    /// Makes sure that the other side is a registry. Asks once; a failure is asked again next
    /// time.
    pub(super) async fn contact(&self) -> Result<(), ClientError> {
        self.contacted
            .get_or_try_init(|| self.ask_who_is_there())
            .await
            .copied()
    }

    async fn ask_who_is_there(&self) -> Result<(), ClientError> {
        let call = Call::new(
            "reach the registry".to_owned(),
            Scope::registry(),
            Method::GET,
            self.url("v2/"),
        );
        let response = self.repeat(&call).await?;
        let status = response.status();
        let headers = response.headers().clone();
        let is_known = status.is_success()
            || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if is_known && !is_html(&headers) {
            return Ok(());
        }
        if is_html(&headers) || !is_retryable(status) {
            return Err(self.not_a_registry(status, &headers));
        }
        Err(self.refusal(&call.operation, response).await)
    }

    /// Sends a request, as often as the policy allows, and returns the answer whatever its
    /// status; 401 only after a fresh token did not help.
    pub(super) async fn send(&self, call: Call) -> Result<Response, ClientError> {
        self.contact().await?;
        let response = self.repeat(&call).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenge = response.headers().clone();
        let answer = self
            .auth
            .answer(&call.scope, &challenge, &call.operation)
            .await?;
        match answer {
            Some(_) => self.repeat(&call).await,
            None => Ok(response),
        }
    }

    /// Proves who the client is, for tokens of these scopes; nothing where nobody asks.
    pub(super) async fn log_in(&self, scopes: &str) -> Result<Option<Login>, ClientError> {
        self.contact().await?;
        let scope = Scope::registry();
        let (operation, url) = ("log in".to_owned(), self.url("v2/"));
        let call = Call::new(operation, scope.clone(), Method::GET, url);
        let response = self.repeat(&call).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        let headers = response.headers().clone();
        match self.auth.log_in(scopes, &headers, &call.operation).await? {
            Some(login) => Ok(Some(login)),
            None => match self.send(call.clone()).await? {
                response if response.status().is_success() => Ok(Some(Login::default())),
                response => Err(self.refusal(&call.operation, response).await),
            },
        }
    }

    /// Returns the certificate that was shown (RFC 7468 §5).
    pub(super) async fn certificate(&self) -> Result<String, ClientError> {
        let operation = "get the registry's certificate".to_owned();
        let (scope, url) = (Scope::registry(), self.url("v2/"));
        let call = Call::new(operation, scope, Method::GET, url);
        let response = self.repeat(&call).await?;
        let shown = response.extensions().get::<TlsInfo>();
        let shown = shown.and_then(TlsInfo::peer_certificate);
        let shown = shown.ok_or_else(|| ClientError::Unsupported {
            operation: call.operation,
            reason: "it is spoken to in plain HTTP".to_owned(),
        })?;
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(shown).as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        Ok(pem)
    }

    async fn repeat(&self, call: &Call) -> Result<Response, ClientError> {
        let mut failed = 0;
        loop {
            let activity = Activity::new();
            let result = self
                .attempt(call, call.body.clone().into(), &activity)
                .await;
            failed += 1;
            let delay = match &result {
                _ if failed >= self.policy.attempts => return result,
                Ok(response) if is_retryable(response.status()) => {
                    let told = retry_after(response.headers());
                    match self.policy.delay_after(failed, told) {
                        Some(delay) => delay,
                        None => return result,
                    }
                }
                // A registry that was never there is more likely misspelt than restarting.
                Err(ClientError::Unreachable { .. }) if !self.contacted.initialized() => {
                    return result;
                }
                Err(error) if error.is_transient() => self.policy.delay(failed),
                _ => return result,
            };
            tracing::debug!(
                operation = call.operation,
                attempt = failed,
                ?delay,
                "trying again"
            );
            tokio::time::sleep(delay).await;
        }
    }

    /// Sends a request once. A body that streams touches `activity` as it goes.
    pub(super) async fn attempt(
        &self,
        call: &Call,
        body: reqwest::Body,
        activity: &Activity,
    ) -> Result<Response, ClientError> {
        let mut request = self
            .http
            .request(call.method.clone(), call.url.clone())
            .headers(call.headers.clone());
        // A server may send its clients elsewhere for uploads, but never gets them to show
        // their token there.
        if call.url.origin() == self.base.origin()
            && let Some(header) = self.auth.header(&call.scope, &call.operation).await
        {
            request = request.header(AUTHORIZATION, header);
        }
        if !matches!(call.method, Method::GET | Method::HEAD) {
            request = request.body(body);
        }
        let limit = self.policy.progress_timeout + call.patience;
        match activity.watch(limit, request.send()).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => Err(self.failure(&call.operation, &error)),
            None => Err(self.stalled(&call.operation, limit)),
        }
    }

    /// Returns the next piece of an answer's body.
    pub(super) async fn chunk(
        &self,
        response: &mut Response,
        operation: &str,
    ) -> Result<Option<Bytes>, ClientError> {
        let limit = self.policy.progress_timeout;
        match tokio::time::timeout(limit, response.chunk()).await {
            Ok(Ok(chunk)) => {
                if let (Some(rate), Some(chunk)) = (&self.rate, &chunk) {
                    rate.pay(chunk.len()).await;
                }
                Ok(chunk)
            }
            Ok(Err(error)) => Err(self.interrupted(operation, innermost(&error))),
            Err(_) => Err(self.stalled(operation, limit)),
        }
    }

    /// Returns the whole body of an answer, at most `limit` bytes.
    pub(super) async fn body(
        &self,
        mut response: Response,
        operation: &str,
        limit: u64,
    ) -> Result<Bytes, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response, operation).await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(ClientError::TooLarge {
                    operation: operation.to_owned(),
                    limit,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.into())
    }

    /// Returns the error that an answer stands for which is not one of the expected.
    pub(super) async fn refusal(&self, operation: &str, response: Response) -> ClientError {
        let status = response.status();
        let headers = response.headers().clone();
        let operation = operation.to_owned();
        if is_html(&headers) {
            return self.not_a_registry(status, &headers);
        }
        // Whatever the body was: the status is what counts.
        let body = self.body(response, &operation, ERROR_BODY_MAX).await;
        let envelope = Envelope::parse(&body.unwrap_or_default()).unwrap_or_default();
        let code = envelope.code();
        if status == StatusCode::UNAUTHORIZED {
            return ClientError::Unauthorized {
                operation,
                registry: self.address.to_string(),
                reason: envelope.to_string(),
                anonymous: self.auth.is_anonymous(),
            };
        }
        if status == StatusCode::METHOD_NOT_ALLOWED || code == Some(ErrorCode::Unsupported) {
            return ClientError::Unsupported {
                operation,
                reason: envelope.to_string(),
            };
        }
        ClientError::Refused {
            operation,
            status,
            envelope,
            retry_after: retry_after(&headers).filter(|_| is_retryable(status)),
        }
    }

    fn not_a_registry(&self, status: StatusCode, headers: &HeaderMap) -> ClientError {
        let kind = match content_type(headers) {
            "" => "no content type",
            "text/html" => "HTML",
            other => other,
        };
        ClientError::NotARegistry {
            registry: self.address.to_string(),
            found: format!("it sent {kind} with status {}", status.as_u16()),
        }
    }

    /// Returns the error of an answer that should have been JSON of the API.
    pub(super) fn unreadable(
        &self,
        operation: &str,
        headers: &HeaderMap,
        reason: String,
    ) -> ClientError {
        if is_html(headers) {
            return self.not_a_registry(StatusCode::OK, headers);
        }
        ClientError::Protocol {
            operation: operation.to_owned(),
            reason,
        }
    }

    /// Returns the error, or a better one where the answer is a page for people.
    pub(super) fn unless_html(&self, headers: &HeaderMap, error: ClientError) -> ClientError {
        if is_html(headers) {
            return self.not_a_registry(StatusCode::OK, headers);
        }
        error
    }

    fn failure(&self, operation: &str, error: &reqwest::Error) -> ClientError {
        let reason = innermost(error);
        if error.is_connect() || (error.is_timeout() && !error.is_body()) {
            return ClientError::Unreachable {
                registry: self.address.to_string(),
                reason,
            };
        }
        if !self.contacted.initialized() {
            // Something listens there that does not even speak HTTP.
            return ClientError::NotARegistry {
                registry: self.address.to_string(),
                found: reason,
            };
        }
        self.interrupted(operation, reason)
    }

    pub(super) fn interrupted(&self, operation: &str, reason: String) -> ClientError {
        ClientError::Interrupted {
            operation: operation.to_owned(),
            registry: self.address.to_string(),
            reason,
        }
    }

    fn stalled(&self, operation: &str, limit: Duration) -> ClientError {
        ClientError::Stalled {
            operation: operation.to_owned(),
            registry: self.address.to_string(),
            seconds: limit.as_secs(),
        }
    }
}

/// Returns what makes connections to the registry.
fn http_client(
    address: &Address,
    base: &Url,
    options: &Options,
) -> Result<ClientBuilder, ClientError> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("deployctl/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(options.retry.connect_timeout)
        .tcp_nodelay(true);
    let builder = match base.scheme() {
        "https" => builder
            .tls_backend_preconfigured(pin::config(options.fingerprint)?)
            .tls_info(true),
        _ => builder,
    };
    Ok(match address.is_loopback() {
        // A proxy of the environment would look for the registry on its own machine.
        true => builder.no_proxy(),
        false => builder,
    })
}

/// Returns the media type of an answer without parameters, empty where there is none.
pub(super) fn content_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    deploy_spec::manifest::without_parameters(value.unwrap_or_default())
}

fn is_html(headers: &HeaderMap) -> bool {
    matches!(content_type(headers), "text/html" | "application/xhtml+xml")
}
