//! What stays of a request: an id, a line in the log, numbers in the metrics. A layer around
//! all routes.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::atomic::AtomicU64,
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
use http::{HeaderName, HeaderValue, Method};
use prometheus_client::metrics::counter::Counter;
use rand::RngExt as _;
use tracing::Instrument as _;

use super::{App, error::ApiError, path::Resource};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A client's own id is taken where it is not longer, and nothing that a log could mistake.
const REQUEST_ID_MAX: usize = 128;

/// Accompanies a request: takes its id over or gives it one, and says how it went.
pub(crate) async fn request(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let method = method_name(request.method());
    let path = request.uri().path().to_owned();
    let route = route_name(&path);
    let span =
        tracing::info_span!("request", request.id = %id.to_str().unwrap_or_default(), method, path);
    let running = app.metrics().begin();
    let received = app.metrics().received();
    *request.body_mut() = counted(std::mem::take(request.body_mut()), received);
    // A bug in one request must not look like a broken network to its client.
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    let answer = answer.instrument(span.clone()).await;
    let mut response =
        answer.unwrap_or_else(|_| span.in_scope(|| ApiError::panicked().into_response()));
    drop(running);
    let (status, took) = (response.status().as_u16(), started.elapsed());
    app.metrics().answered(route, method, status, took);
    let milliseconds = took.as_secs_f64() * 1000.0;
    span.in_scope(|| tracing::info!(status, duration_ms = milliseconds, "answered"));
    response.headers_mut().insert(REQUEST_ID, id);
    response.map(|body| counted(body, app.metrics().sent()))
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

/// Clients choose methods and paths; labels of metrics must stay few.
fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

fn route_name(path: &str) -> &'static str {
    match path {
        "/healthz" => "healthz",
        "/readyz" => "readyz",
        "/metrics" => "metrics",
        path => Resource::parse(path).map_or("other", |resource| resource.route()),
    }
}

fn counted(body: Body, counter: Counter<u64, AtomicU64>) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::new(Counted { body, counter })
}

/// A body whose bytes are counted as they pass.
struct Counted {
    body: Body,
    counter: Counter<u64, AtomicU64>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            self.counter.inc_by(bytes.len() as u64);
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
