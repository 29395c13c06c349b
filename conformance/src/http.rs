//! Raw requests to the registry under test, and answers that can be held against a rule.
//! Every check talks through this file, so that no client library smooths anything over.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderMap, Method, StatusCode};
use reqwest::Client;
use url::Url;

use crate::auth::{Authorizer, Credentials};
use crate::check::{Failure, Stop, Verdict};
use crate::observed::Observed;

/// Answers longer than this are cut off; no check needs more.
const BODY_LIMIT: usize = 64 * 1024 * 1024;
/// A registry that sends nothing for so long has hung.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// So much of a body is quoted in a failure.
const EXCERPT: usize = 240;

/// The registry under test; a cheap handle.
#[derive(Clone)]
pub(crate) struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    base: Url,
    authorizer: Authorizer,
    observed: Observed,
}

impl Registry {
    /// A registry at `base` (scheme, host and port).
    pub(crate) fn new(
        base: Url,
        credentials: Option<Credentials>,
        insecure: bool,
    ) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("conformance/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .tls_danger_accept_invalid_certs(insecure)
            .no_proxy()
            .build()?;
        Ok(Self {
            inner: Arc::new(Inner {
                authorizer: Authorizer::new(client.clone(), credentials),
                client,
                base,
                observed: Observed::default(),
            }),
        })
    }

    /// What all answers of this run have shown so far.
    pub(crate) fn observed(&self) -> &Observed {
        &self.inner.observed
    }

    /// The address, for reports.
    pub(crate) fn base(&self) -> &Url {
        &self.inner.base
    }

    /// A request to a path of this registry or to an absolute address that it named.
    pub(crate) fn request(&self, method: Method, location: &str) -> Request {
        Request {
            registry: self.clone(),
            method,
            target: self
                .inner
                .base
                .join(location)
                .map_err(|error| format!("the address `{location}` can not be read: {error}")),
            headers: Vec::new(),
            body: Body::Empty,
        }
    }
}

/// What a request carries.
#[derive(Clone)]
enum Body {
    Empty,
    Whole(Bytes),
    /// Sent with chunked transfer encoding, so without a `Content-Length`.
    Streamed(Vec<Bytes>),
    /// As `Streamed`, and then the connection breaks.
    Broken(Vec<Bytes>),
}

/// A request that is being put together.
pub(crate) struct Request {
    registry: Registry,
    method: Method,
    target: Result<Url, String>,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

impl Request {
    /// Adds a header; the same name may be added again.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds a query parameter behind those that the address has.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        if let Ok(url) = &mut self.target {
            url.query_pairs_mut().append_pair(name, value);
        }
        self
    }

    /// Sends `bytes` with their length.
    pub(crate) fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = Body::Whole(bytes.into());
        self
    }

    /// Sends `pieces` one after another without telling the length.
    pub(crate) fn stream(mut self, pieces: Vec<Bytes>) -> Self {
        self.body = Body::Streamed(pieces);
        self
    }

    /// Sends `pieces` and breaks off, as a client does that loses its network.
    pub(crate) fn broken_stream(mut self, pieces: Vec<Bytes>) -> Self {
        self.body = Body::Broken(pieces);
        self
    }

    /// Sends it, with credentials where the registry asked for them, and reads the answer whole.
    pub(crate) async fn send(self) -> Verdict<Reply> {
        let description = self.describe();
        let outcome = self.exchange(&description).await;
        outcome.map_err(|got| {
            Stop::Fail(Box::new(Failure {
                request: description,
                expected: "an answer".into(),
                got,
                severe: true,
            }))
        })
    }

    /// Method, path and headers on one line, for failures.
    fn describe(&self) -> String {
        let mut line = match &self.target {
            Ok(url) => format!("{} {}", self.method, path_and_query(url)),
            Err(_) => self.method.to_string(),
        };
        for (name, value) in &self.headers {
            line.push_str(&format!(" [{name}: {}]", excerpt(value, EXCERPT)));
        }
        match &self.body {
            Body::Empty => {}
            Body::Whole(bytes) => line.push_str(&format!(" ({} bytes)", bytes.len())),
            Body::Streamed(pieces) => {
                line.push_str(&format!(" ({} bytes streamed)", total(pieces)))
            }
            Body::Broken(pieces) => {
                line.push_str(&format!(" ({} bytes, then broken off)", total(pieces)));
            }
        }
        line
    }

    async fn exchange(self, description: &str) -> Result<Reply, String> {
        let url = self.target.clone()?;
        let authorizer = &self.registry.inner.authorizer;
        let authorization = authorizer.known(&self.method, &url);
        let reply = self.attempt(&url, authorization, description).await?;
        if reply.status == StatusCode::UNAUTHORIZED
            && let Some(value) = authorizer.answer(&self.method, &url, &reply.headers).await
        {
            return self.attempt(&url, Some(value), description).await;
        }
        Ok(reply)
    }

    async fn attempt(
        &self,
        url: &Url,
        authorization: Option<String>,
        description: &str,
    ) -> Result<Reply, String> {
        let response = self.transmit(url, authorization).await?;
        let reply = read(description.to_owned(), response).await?;
        self.registry.inner.observed.note(&self.method, &reply);
        Ok(reply)
    }

    async fn transmit(
        &self,
        url: &Url,
        authorization: Option<String>,
    ) -> Result<reqwest::Response, String> {
        let mut request = self
            .registry
            .inner
            .client
            .request(self.method.clone(), url.clone());
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(value) = authorization {
            request = request.header(http::header::AUTHORIZATION, value);
        }
        request = match &self.body {
            Body::Empty if matches!(self.method, Method::GET | Method::HEAD) => request,
            Body::Empty => request.body(Bytes::new()),
            Body::Whole(bytes) => request.body(bytes.clone()),
            Body::Streamed(pieces) => request.body(streamed(pieces.clone(), false)),
            Body::Broken(pieces) => request.body(streamed(pieces.clone(), true)),
        };
        request.send().await.map_err(|error| chain(&error))
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    /// What was asked, for failures.
    pub(crate) request: String,
    /// Where the answer came from, after redirects.
    pub(crate) url: Url,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// A failure of this exchange.
    pub(crate) fn fail(&self, expected: impl Into<String>) -> Stop {
        Stop::Fail(Box::new(Failure {
            request: self.request.clone(),
            expected: expected.into(),
            got: self.describe(),
            severe: self.status.is_server_error(),
        }))
    }

    /// Holds the status against what is allowed.
    pub(crate) fn status(&self, allowed: &[u16]) -> Verdict<&Self> {
        if allowed.contains(&self.status.as_u16()) {
            return Ok(self);
        }
        let allowed: Vec<String> = allowed.iter().map(u16::to_string).collect();
        Err(self.fail(format!("status {}", allowed.join(" or "))))
    }

    /// Skips the check where the registry says that it does not offer something.
    pub(crate) fn skip_unless(&self, allowed: &[u16], feature: &str) -> Verdict<&Self> {
        if matches!(self.status.as_u16(), 400 | 404 | 405 | 415 | 501)
            && !allowed.contains(&self.status.as_u16())
        {
            return Err(Stop::skip(format!(
                "{feature} is not offered ({} answered {})",
                self.request, self.status
            )));
        }
        self.status(allowed)
    }

    /// A header's value, empty where it is not text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    }

    /// A header's value, or a failure.
    pub(crate) fn required(&self, name: &str) -> Verdict<&str> {
        self.header(name)
            .ok_or_else(|| self.fail(format!("a `{name}` header")))
    }

    /// Holds a header against an exact value.
    pub(crate) fn header_is(&self, name: &str, value: &str) -> Verdict<&Self> {
        if self.header(name) == Some(value) {
            return Ok(self);
        }
        Err(self.fail(format!("header `{name}: {value}`")))
    }

    /// Holds that a header is not there.
    pub(crate) fn header_absent(&self, name: &str) -> Verdict<&Self> {
        match self.header(name) {
            None => Ok(self),
            Some(_) => Err(self.fail(format!("no `{name}` header"))),
        }
    }

    /// Holds the body against exact bytes.
    pub(crate) fn body_is(&self, bytes: &[u8]) -> Verdict<&Self> {
        if self.body == bytes {
            return Ok(self);
        }
        let differs = self
            .body
            .iter()
            .zip(bytes)
            .position(|(got, wanted)| got != wanted)
            .unwrap_or_else(|| self.body.len().min(bytes.len()));
        Err(self.fail(format!(
            "the {} bytes that were pushed (the answer has {}, and differs from byte {differs})",
            bytes.len(),
            self.body.len()
        )))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Verdict<serde_json::Value> {
        serde_json::from_slice(&self.body).map_err(|error| self.fail(format!("JSON ({error})")))
    }

    /// The `Location` header made absolute.
    pub(crate) fn location(&self) -> Verdict<String> {
        let location = self.required("location")?;
        match self.url.join(location) {
            Ok(url) => Ok(url.to_string()),
            Err(_) => Err(self.fail("a `Location` that is an address")),
        }
    }

    /// The target of `Link: <…>; rel="next"` made absolute, where there is such a link.
    pub(crate) fn next(&self) -> Verdict<Option<String>> {
        let Some(link) = self.header("link") else {
            return Ok(None);
        };
        match crate::link::next(link).map(|target| self.url.join(target)) {
            Some(Ok(url)) => Ok(Some(url.to_string())),
            _ => Err(self.fail("a `Link` header with the relation type `rel=\"next\"`")),
        }
    }

    /// The code of the first error in the body, where the body has the specified form.
    pub(crate) fn error_code(&self) -> Option<String> {
        let value: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        Some(value["errors"][0]["code"].as_str()?.to_owned())
    }

    /// Holds the code of the first error against those that fit.
    pub(crate) fn error_is(&self, codes: &[&str]) -> Verdict<&Self> {
        match self.error_code() {
            Some(code) if codes.contains(&code.as_str()) => Ok(self),
            _ => Err(self.fail(format!("the error code {}", codes.join(" or ")))),
        }
    }

    /// Status, the headers that rules speak of, and the beginning of the body.
    fn describe(&self) -> String {
        const TOLD: [&str; 14] = [
            "content-type",
            "content-length",
            "content-range",
            "range",
            "location",
            "docker-content-digest",
            "etag",
            "link",
            "oci-subject",
            "oci-tag",
            "oci-filters-applied",
            "oci-chunk-min-length",
            "preference-applied",
            "retry-after",
        ];
        let mut text = self.status.to_string();
        for name in TOLD {
            if let Some(value) = self.header(name) {
                text.push_str(&format!(" [{name}: {}]", excerpt(value, EXCERPT)));
            }
        }
        if !self.body.is_empty() {
            text.push(' ');
            text.push_str(&excerpt(&String::from_utf8_lossy(&self.body), EXCERPT));
        }
        text
    }
}

async fn read(request: String, response: reqwest::Response) -> Result<Reply, String> {
    let url = response.url().clone();
    let status = response.status();
    let headers = response.headers().clone();
    let mut body = BytesMut::new();
    let mut stream = response.bytes_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| {
            format!(
                "{status}, then after {} bytes: {}",
                body.len(),
                chain(&error)
            )
        })?;
        if body.len() + piece.len() > BODY_LIMIT {
            return Err(format!("{status} with more than {BODY_LIMIT} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Reply {
        request,
        url,
        status,
        headers,
        body: body.freeze(),
    })
}

fn streamed(pieces: Vec<Bytes>, broken: bool) -> reqwest::Body {
    let end = broken.then(|| Err(std::io::Error::other("the client broke off")));
    let items = pieces.into_iter().map(Ok).chain(end);
    reqwest::Body::wrap_stream(futures::stream::iter(items))
}

fn total(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

fn path_and_query(url: &Url) -> String {
    let path = excerpt(url.path(), 2 * EXCERPT);
    match url.query() {
        Some(query) => format!("{path}?{}", excerpt(query, EXCERPT)),
        None => path,
    }
}

/// The beginning of `text` on one line.
fn excerpt(text: &str, limit: usize) -> String {
    let mut short: String = text
        .chars()
        .take(limit)
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    if text.chars().nth(limit).is_some() {
        short.push('…');
    }
    short
}

/// An error with its causes on one line; reqwest's own text leaves them out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
