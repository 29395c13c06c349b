//! Raw requests to the registry under test.
//! Every check talks through this file, so that no client library smooths anything over.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{Method, StatusCode};
use reqwest::Client;
use url::Url;

use crate::auth::{Authorizer, Credentials};
use crate::check::{Failure, Stop, Verdict};
use crate::observed::Observed;
use crate::reply::{EXCERPT, Reply, excerpt};

/// Answers longer than this are cut off; no check needs more.
const BODY_LIMIT: usize = 64 * 1024 * 1024;
/// A registry that sends nothing for so long has hung.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
        // Most requests accept every type; only another wish is worth telling.
        let told = |value: &String| value != crate::scope::ACCEPT;
        for (name, value) in self.headers.iter().filter(|(_, value)| told(value)) {
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
