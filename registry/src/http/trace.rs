//! What stays of a request: an id, a line in the access log, numbers in the metrics, a span in a
//! trace. A layer around all routes.

use std::{
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    body::{Body, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Uri, header};
use jiff::Timestamp;
use rand::RngExt as _;
use tracing::{Instrument as _, Span};

use super::{
    App,
    body::{Incoming, content_length},
    error::ApiError,
    path::{PathError, Resource},
    telemetry, token,
};
use crate::{
    access_log::Entry,
    metrics::{Exchange, Route},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A client's own id is taken where it is not longer, and nothing that a log could mistake.
const REQUEST_ID_MAX: usize = 128;

/// In the extensions of a request: who sent it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// In the extensions of a request, where somebody wants to know it: what it is called in logs.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) HeaderValue);

/// Accompanies a request: takes its id over or gives it one, and says how it went.
pub(crate) async fn request(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let resource = Resource::parse(request.uri().path());
    let transaction = Arc::new(Transaction::begin(app, &request, &resource));
    // For the router, which needs no more of the path.
    request.extensions_mut().insert(resource);
    let app = &transaction.app;
    if app.audit().is_on() {
        let id = RequestId(transaction.id.clone());
        request.extensions_mut().insert(id);
    }
    let requests = app.metrics().requests();
    let running = requests.begin();
    let body = std::mem::take(request.body_mut());
    *request.body_mut() = Transaction::accompany(&transaction, body, Way::In, None);
    let span = transaction.span.clone();
    // A bug in one request must not look like a broken network to its client.
    let answer = AssertUnwindSafe(transaction.answer(request, next)).catch_unwind();
    let answer = answer.instrument(span.clone()).await;
    let mut response =
        answer.unwrap_or_else(|_| span.in_scope(|| ApiError::panicked().into_response()));
    drop(running);
    let status = response.status();
    transaction.status.store(status.as_u16(), Relaxed);
    requests.answered(transaction.exchange, status, transaction.started.elapsed());
    if app.is_traced() {
        telemetry::answered(&span, status);
    }
    let id = transaction.id.clone();
    response.headers_mut().insert(REQUEST_ID, id);
    let length = content_length(response.headers());
    response.map(|body| Transaction::accompany(&transaction, body, Way::Out, length))
}

/// A request and its answer. Both bodies hold it; it is over when the last of them is.
struct Transaction {
    app: App,
    exchange: Exchange,
    started: Instant,
    uri: Uri,
    peer: Option<Peer>,
    agent: Option<HeaderValue>,
    id: HeaderValue,
    span: Span,
    status: AtomicU16,
    received: AtomicU64,
    sent: AtomicU64,
    broken: AtomicBool,
}

impl Transaction {
    fn begin(app: App, request: &Request, resource: &Result<Resource, PathError>) -> Self {
        let id = request_id(request);
        let uri = request.uri().clone();
        let exchange = Exchange::new(route(uri.path(), resource), request.method());
        let span = tracing::info_span!(
            "request",
            request.id = %id.to_str().unwrap_or_default(),
            method = exchange.method(),
            path = uri.path(),
            otel.name = tracing::field::Empty,
            otel.kind = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        );
        let peer = request.extensions().get::<Peer>().copied();
        if app.is_traced() {
            telemetry::begun(&span, request, exchange, peer);
        }
        let agent = match app.access_log().is_on() {
            true => request.headers().get(header::USER_AGENT).cloned(),
            false => None,
        };
        Self {
            app,
            exchange,
            started: Instant::now(),
            uri,
            peer,
            agent,
            id,
            span,
            status: AtomicU16::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        }
    }

    /// Returns the answer, unless the client asks too often. Operators and their probes may.
    async fn answer(&self, request: Request, next: Next) -> Response {
        if !self.exchange.route().is_operation()
            && let Some(Peer(peer)) = self.peer
            && let Err(busy) = self.app.limiter().admit(peer.ip(), Instant::now())
        {
            let body = Incoming::new(request.into_body(), self.app.idle());
            body.drain().await;
            let message = "this client makes too many requests";
            return ApiError::too_many(busy.again, message).into_response();
        }
        next.run(request).await
    }

    fn accompany(this: &Arc<Self>, body: Body, way: Way, length: Option<u64>) -> Body {
        if body.is_end_stream() {
            return body;
        }
        if way == Way::Out {
            // Until its end is seen.
            this.broken.store(true, Relaxed);
        }
        Body::new(Accompanied {
            left: length,
            body,
            way,
            transaction: this.clone(),
        })
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let log = self.app.access_log();
        if !log.is_on() {
            return;
        }
        log.add(&Entry {
            timestamp: Timestamp::now(),
            method: self.exchange.method(),
            path: self.uri.path(),
            status: *self.status.get_mut(),
            received_bytes: *self.received.get_mut(),
            sent_bytes: *self.sent.get_mut(),
            duration_seconds: self.started.elapsed().as_secs_f64(),
            complete: !*self.broken.get_mut(),
            peer: self.peer.map(|Peer(peer)| peer),
            agent: (self.agent.as_ref()).and_then(|agent| agent.to_str().ok()),
            request_id: self.id.to_str().unwrap_or_default(),
        });
    }
}

/// Where a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// A body whose bytes are counted as they pass.
struct Accompanied {
    body: Body,
    way: Way,
    /// How many bytes are missing, where that was announced: nobody asks for more behind the last.
    left: Option<u64>,
    transaction: Arc<Transaction>,
}

impl Accompanied {
    fn passed(&mut self, bytes: u64) {
        let requests = self.transaction.app.metrics().requests();
        let exchange = self.transaction.exchange;
        match self.way {
            Way::In => {
                requests.received(exchange, bytes);
                self.transaction.received.fetch_add(bytes, Relaxed);
            }
            Way::Out => {
                requests.sent(exchange, bytes);
                self.transaction.sent.fetch_add(bytes, Relaxed);
            }
        }
        self.left = self.left.map(|left| left.saturating_sub(bytes));
        if self.left == Some(0) {
            self.ended();
        }
    }

    fn ended(&self) {
        if self.way == Way::Out {
            self.transaction.broken.store(false, Relaxed);
        }
    }
}

impl HttpBody for Accompanied {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    let length = bytes.len() as u64;
                    self.passed(length);
                }
                // Of a body whose end is known, nobody asks for more either.
                if self.body.is_end_stream() {
                    self.ended();
                }
            }
            Poll::Ready(None) => self.ended(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

fn request_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID).filter(|id| {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
        !id.is_empty() && id.len() <= REQUEST_ID_MAX && id.as_bytes().iter().all(fits)
    });
    given.cloned().unwrap_or_else(|| {
        let id = format!("{:016x}", rand::rng().random::<u64>());
        HeaderValue::try_from(id).expect("digits are visible ASCII")
    })
}

fn route(path: &str, resource: &Result<Resource, PathError>) -> Route {
    match (resource, path) {
        (Ok(resource), _) => resource.route(),
        (Err(_), "/healthz") => Route::Live,
        (Err(_), "/readyz") => Route::Ready,
        (Err(_), "/metrics") => Route::Metrics,
        (Err(_), path) if token::is_route(path) => Route::Token,
        (Err(_), _) => Route::Other,
    }
}
