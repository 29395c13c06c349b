//! `/v2/`, `/healthz`, `/readyz`, `/metrics`: what clients and operators ask first.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, StatusCode, header};

use super::App;
use crate::store::causes;

/// The registry speaks this API.
pub(crate) fn api() -> Response {
    const VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
    let headers = [
        (VERSION, "registry/2.0"),
        (header::CONTENT_TYPE, "application/json"),
    ];
    (headers, "{}").into_response()
}

/// The process runs.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// The process takes requests, and its store answers.
pub(crate) async fn ready(State(app): State<App>) -> Response {
    if app.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match app.store().repositories(None, 1).await {
        Ok(_) => "ok\n".into_response(),
        Err(error) => {
            tracing::warn!(cause = causes(&error), "store does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "store does not answer\n").into_response()
        }
    }
}

/// What happened since the start, for Prometheus.
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, FORMAT)], app.metrics().encode()).into_response()
}
