//! A registry without connections, for the properties: whatever it is asked, it does not fail.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use deploy_spec::Envelope;
use futures::TryStreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::{
    AccessLog, Limiter, Store,
    audit::AuditLog,
    auth::Gatekeeper,
    http::{Access, App, Settings, service},
    metrics::Metrics,
};

/// A registry in memory, without connections.
pub(super) struct Registry(Router);

/// An answer, read to its end.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: HeaderName) -> &str {
        let value = self.headers.get(name).map(HeaderValue::to_str);
        value.map_or("", |text| text.expect("what we send is visible ASCII"))
    }
}

impl Registry {
    pub(super) fn new(store: Store) -> Self {
        Self::with(store, Access::open(false))
    }

    /// Returns one that only those may use whom the gatekeeper knows.
    pub(super) fn guarded(store: Store, gatekeeper: Gatekeeper) -> Self {
        Self::with(store, Access::guarded(Arc::new(gatekeeper), false))
    }

    fn with(store: Store, access: Access) -> Self {
        let metrics = Arc::new(Metrics::new(&store, Arc::default(), Arc::default()));
        let settings = Settings {
            access,
            idle: Duration::from_secs(60),
            limiter: Limiter::default(),
            access_log: AccessLog::off(),
            audit: AuditLog::off(),
            traced: false,
        };
        // As if it were about to stop: nobody is kept waiting for news.
        let (_, stopping) = watch::channel(true);
        let app = App::new(store, metrics, settings, stopping, Default::default());
        Self(service(app))
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let is_head = request.method() == Method::HEAD;
        let uri = request.uri().clone();
        let response = (self.0.clone().oneshot(request).await).expect("it cannot fail");
        let (head, body) = response.into_parts();
        let pieces: Vec<Bytes> =
            (body.into_data_stream().try_collect().await).expect("memory does not break off");
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            body: pieces.concat().into(),
        };
        let about_to_stop = uri.path() == "/readyz";
        assert!(
            about_to_stop || !answer.status.is_server_error(),
            "{uri} is answered with {}",
            answer.status
        );
        if answer.status.is_client_error() && !is_head && uri.path().starts_with("/v2") {
            let envelope = Envelope::parse(&answer.body).expect("errors come in an envelope");
            assert!(!envelope.errors.is_empty() && !envelope.errors[0].message.is_empty());
        }
        answer
    }

    pub(super) async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(HeaderName, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(name, HeaderValue::from_str(value).ok()?);
        }
        let length = body.len();
        let body = match length {
            0 => Body::empty(),
            _ => Body::from(body.to_vec()),
        };
        let request = request.header(header::CONTENT_LENGTH, length).body(body);
        Some(self.send(request.ok()?).await)
    }

    /// Sends what must be sound.
    pub(super) async fn must(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let answer = self.ask(method, target, &[], body).await;
        let answer = answer.expect("the request is sound");
        assert!(answer.status.is_success(), "{target}: {}", answer.status);
        answer
    }
}
