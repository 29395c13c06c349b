//! Bodies of requests: streamed with a limit on idleness, or collected with a limit on size.
//! Called by handlers.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use deploy_spec::ErrorCode;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use http::{HeaderMap, StatusCode, header};

use super::error::{ApiError, Result};
use crate::store::BodyError;

/// How much of an unwanted body is read so that the client gets to see the answer: most look
/// for it only when they have sent everything.
const DRAIN_MAX: usize = 16 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// The body of a request. Read on, whatever becomes of the request.
pub(crate) struct Incoming(BoxStream<'static, Result<Bytes, BodyError>>);

impl Incoming {
    /// The body, which fails when nothing arrives for `idle`.
    pub(crate) fn new(body: Body, idle: Duration) -> Self {
        let stream = futures::stream::unfold(Some(body.into_data_stream()), move |stream| {
            next(stream, idle)
        });
        // Fused: what is left is drained, also where nothing is.
        Self(stream.fuse().boxed())
    }

    /// Reads what is left, within limits, and drops it.
    pub(crate) async fn drain(mut self) {
        let drain = async {
            let mut drained = 0;
            while let Some(Ok(piece)) = self.0.next().await {
                drained += piece.len();
                if drained > DRAIN_MAX {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIME, drain).await;
    }

    /// Returns the whole body.
    ///
    /// # Errors
    /// 413 where it is longer than `limit` bytes.
    pub(crate) async fn collect(mut self, headers: &HeaderMap, limit: usize) -> Result<Bytes> {
        let announced = content_length(headers).unwrap_or_default();
        let mut bytes = BytesMut::new();
        if announced <= limit as u64 {
            while let Some(piece) = self.0.next().await {
                let piece = piece.map_err(crate::store::StoreError::from)?;
                bytes.extend_from_slice(&piece);
                if bytes.len() > limit {
                    break;
                }
            }
        }
        if announced > limit as u64 || bytes.len() > limit {
            self.drain().await;
            return Err(ApiError::with_status(
                StatusCode::PAYLOAD_TOO_LARGE,
                ErrorCode::ManifestInvalid,
                format!("a manifest may hold {limit} bytes at most"),
            ));
        }
        Ok(bytes.freeze())
    }
}

async fn next(
    stream: Option<BodyDataStream>,
    idle: Duration,
) -> Option<(Result<Bytes, BodyError>, Option<BodyDataStream>)> {
    let mut stream = stream?;
    match tokio::time::timeout(idle, stream.next()).await {
        Err(_) => Some((Err(BodyError::Idle(idle.as_secs())), None)),
        Ok(None) => None,
        Ok(Some(Ok(piece))) => Some((Ok(piece), Some(stream))),
        Ok(Some(Err(error))) => {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            Some((Err(BodyError::Broken(cause.to_string())), None))
        }
    }
}

impl Stream for Incoming {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

/// Returns the announced length of the body.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
