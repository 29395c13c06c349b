//! What a client is told when something fails: the one place that turns errors of the store
//! and of requests into status, code and envelope. Called by everything in `http`.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use deploy_spec::{
    Digest, ErrorCode,
    error::{Envelope, ErrorBody},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use super::{conditions::entity_tag, path::PathError};
use crate::store::{BodyError, StoreError, causes};

/// How many seconds a store that does not answer is given.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// What is answered in place of what was asked for.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    envelope: Envelope,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What the log should say and the client need not know.
    cause: Option<Box<StoreError>>,
}

pub(crate) type Result<T = Response, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    /// With the status that goes with the code.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(code.status()).expect("codes have valid statuses");
        Self::with_status(status, code, message)
    }

    pub(crate) fn with_status(
        status: StatusCode,
        code: ErrorCode,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            envelope: Envelope::one(code, message),
            headers: Vec::new(),
            cause: None,
        }
    }

    /// A failure of ours: no code of the specification fits.
    fn internal(status: StatusCode, message: &str, cause: StoreError) -> Self {
        Self {
            status,
            envelope: Envelope {
                errors: vec![ErrorBody {
                    code: "UNKNOWN".to_owned(),
                    message: message.to_owned(),
                    detail: serde_json::Value::Null,
                }],
            },
            headers: Vec::new(),
            cause: Some(Box::new(cause)),
        }
    }

    /// A bug of ours. The panic itself was printed where it happened.
    pub(crate) fn panicked() -> Self {
        tracing::error!("request failed: its handler panicked");
        let cause = StoreError::from(std::io::Error::other("handler panicked"));
        Self {
            cause: None,
            ..Self::from(cause)
        }
    }

    /// Returns its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns what the client is told first.
    pub(crate) fn message(&self) -> &str {
        let first = self.envelope.errors.first();
        first.map_or("", |error| &error.message)
    }

    /// Adds a header to the answer.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        Self::new(ErrorCode::Unsupported, "this endpoint knows no such method")
            .header(header::ALLOW, HeaderValue::from_static(allowed))
    }

    /// The registry takes no changes.
    pub(crate) fn read_only() -> Self {
        let message = "this registry is read-only: it takes no changes";
        Self::new(ErrorCode::Unsupported, message)
            .header(header::ALLOW, HeaderValue::from_static("GET, HEAD"))
    }

    /// The client asks too often.
    pub(crate) fn too_many(again: Duration, message: &str) -> Self {
        Self::new(ErrorCode::TooManyRequests, message).retry_after(again)
    }

    /// The registry has too much to do, whoever asks.
    pub(crate) fn busy(again: Duration, message: &str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::with_status(status, ErrorCode::TooManyRequests, message).retry_after(again)
    }

    /// Says when to try again, in whole seconds, as the header wants it.
    pub(crate) fn retry_after(self, again: Duration) -> Self {
        let seconds = again.as_secs() + u64::from(again.subsec_nanos() > 0);
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    pub(crate) fn digest(error: impl ToString) -> Self {
        Self::new(ErrorCode::DigestInvalid, error.to_string())
    }
}

impl From<PathError> for ApiError {
    fn from(error: PathError) -> Self {
        match error {
            PathError::NoEndpoint => Self::with_status(
                StatusCode::NOT_FOUND,
                ErrorCode::Unsupported,
                "there is no such endpoint",
            ),
            PathError::Name(error) => Self::new(ErrorCode::NameInvalid, error.to_string()),
            PathError::Digest(error) => Self::digest(error),
            PathError::Tag(error) => Self::new(ErrorCode::ManifestInvalid, error.to_string()),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        let plain = |code| Self::new(code, message.clone());
        let with = |status, code| Self::with_status(status, code, message.clone());
        match error {
            StoreError::BlobUnknown(_) => plain(ErrorCode::BlobUnknown),
            StoreError::ManifestUnknown(_) => plain(ErrorCode::ManifestUnknown),
            StoreError::RepositoryUnknown(_) => plain(ErrorCode::NameUnknown),
            StoreError::UploadUnknown(_) => plain(ErrorCode::BlobUploadUnknown),
            StoreError::DigestMismatch { .. } => plain(ErrorCode::DigestInvalid),
            StoreError::OutOfOrder { .. } => with(
                StatusCode::RANGE_NOT_SATISFIABLE,
                ErrorCode::BlobUploadInvalid,
            ),
            StoreError::LengthMismatch { .. } => plain(ErrorCode::SizeInvalid),
            StoreError::UploadBusy => with(StatusCode::CONFLICT, ErrorCode::BlobUploadInvalid),
            StoreError::ManifestInvalid(_) => plain(ErrorCode::ManifestInvalid),
            StoreError::ContentMissing(missing) => Self {
                envelope: missing_content(&missing),
                ..plain(ErrorCode::ManifestBlobUnknown)
            },
            StoreError::ConditionFailed { current } => {
                let error = with(StatusCode::PRECONDITION_FAILED, ErrorCode::Denied);
                match current {
                    Some(current) => error.header(header::ETAG, entity_tag(&current)),
                    None => error,
                }
            }
            StoreError::Body(BodyError::Idle(_)) => {
                with(StatusCode::REQUEST_TIMEOUT, ErrorCode::BlobUploadInvalid)
            }
            StoreError::Body(BodyError::TakenOver) => {
                with(StatusCode::CONFLICT, ErrorCode::BlobUploadInvalid)
            }
            StoreError::Body(BodyError::Broken(_)) => plain(ErrorCode::BlobUploadInvalid),
            StoreError::Full => Self::internal(
                StatusCode::INSUFFICIENT_STORAGE,
                "the registry's storage is full: nothing was stored",
                error,
            ),
            StoreError::Removing(_) | StoreError::Contended(_) => Self::internal(
                StatusCode::SERVICE_UNAVAILABLE,
                "what was to be written is changed by others at this moment: try again",
                error,
            )
            .header(header::RETRY_AFTER, RETRY_AFTER),
            error if error.is_transient() => Self::internal(
                StatusCode::SERVICE_UNAVAILABLE,
                "the registry's storage does not answer at the moment",
                error,
            )
            .header(header::RETRY_AFTER, RETRY_AFTER),
            StoreError::Damaged { .. }
            | StoreError::Stopped
            | StoreError::InUse { .. }
            | StoreError::Directory { .. }
            | StoreError::Backend(_) => Self::internal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the registry failed: its log says why, under this request's id",
                error,
            ),
        }
    }
}

fn missing_content(missing: &[Digest]) -> Envelope {
    let entry = |digest: &Digest| ErrorBody {
        code: ErrorCode::ManifestBlobUnknown.as_str().to_owned(),
        message: format!("manifest references `{digest}`, which is not in this repository"),
        detail: json!({ "digest": digest }),
    };
    Envelope {
        errors: missing.iter().map(entry).collect(),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(cause) = self.cause.as_deref() {
            tracing::error!(
                status = self.status.as_u16(),
                cause = causes(cause),
                "request failed"
            );
        }
        let mut response = Response::new(Body::from(self.envelope.to_json()));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}
