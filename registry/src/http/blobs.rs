//! `/v2/<name>/blobs/<digest>`: pulling and deleting blobs.

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use deploy_spec::{
    Digest, ErrorCode, RepositoryName,
    range::{Selection, select},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    App,
    conditions::{entity_tag, is_known},
    error::{ApiError, Result},
    headers::{DIGEST, digest_value},
};
use crate::{
    audit::Witness,
    server::FileSender,
    store::{Blob, Change, Content, StoreError, causes},
};

/// The blob, or a part of it.
pub(crate) async fn get(
    app: App,
    name: RepositoryName,
    digest: Digest,
    request: Request,
) -> Result {
    let blob = app.store().blob(&name, &digest).await?;
    let headers = request.headers();
    if is_known(headers, &digest) {
        return Ok(not_modified(&digest));
    }
    let (range, status) = match wanted(headers, &blob, &digest) {
        Selection::Part(part) => (part.first..part.last + 1, StatusCode::PARTIAL_CONTENT),
        Selection::Unsatisfiable => return Err(unsatisfiable(blob.size)),
        // Several parts at once are not worth their framing: the whole is as good.
        Selection::Whole | Selection::Parts(_) => (0..blob.size, StatusCode::OK),
    };
    let length = range.end - range.start;
    let (first, last) = (range.start, range.end.saturating_sub(1));
    let content = app.store().blob_content(&blob, range).await?;
    let body = match (content, request.extensions().get::<FileSender>()) {
        (Content::Bytes(bytes), _) => Body::from(bytes),
        (Content::File(file, range), Some(sender)) => sender.body(file, range),
        (content, _) => {
            let mut stream = content.into_stream();
            // Before anything is said: a store that fails at once can still be told of.
            let first = stream.try_next().await?;
            let stream = stream::iter(first.map(Ok)).chain(stream);
            Body::from_stream(stream.map(move |piece| piece.inspect_err(report)))
        }
    };
    let mut response = describe(body, &digest, length);
    *response.status_mut() = status;
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {first}-{last}/{}", blob.size);
        let value = HeaderValue::try_from(value).expect("digits are visible ASCII");
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

/// The status line went out already: all that is left is to break the connection off.
fn report(error: &StoreError) {
    tracing::error!(cause = causes(error), "blob broke off while it was sent");
}

/// What is known of the blob without its bytes.
pub(crate) async fn head(
    app: App,
    name: RepositoryName,
    digest: Digest,
    request: Request,
) -> Result {
    let blob = app.store().blob(&name, &digest).await?;
    if is_known(request.headers(), &digest) {
        return Ok(not_modified(&digest));
    }
    Ok(describe(Body::empty(), &digest, blob.size))
}

/// Takes a blob out of the repository.
pub(crate) async fn delete(
    app: App,
    witness: Witness,
    name: RepositoryName,
    digest: Digest,
) -> Result {
    let work = {
        let app = app.clone();
        async move {
            app.store().delete_blob(&name, &digest).await?;
            witness.saw(&name, Change::BlobDeleted(digest));
            Ok::<_, StoreError>(())
        }
    };
    app.run(work).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Returns what the `Range` header selects, unless `If-Range` asks for other content.
fn wanted(headers: &HeaderMap, blob: &Blob, digest: &Digest) -> Selection {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let Some(range) = text(header::RANGE) else {
        return Selection::Whole;
    };
    if headers
        .get(header::IF_RANGE)
        .is_some_and(|tag| *tag != entity_tag(digest))
    {
        return Selection::Whole;
    }
    if is_inverted(range) {
        return Selection::Unsatisfiable;
    }
    select(range, blob.size)
}

/// `bytes=500-0` is outside the grammar; a server may ignore it or refuse it (RFC 9110
/// §14.2). To send gigabytes to somebody who asks for less than nothing helps nobody.
fn is_inverted(range: &str) -> bool {
    let bounds = range
        .trim()
        .strip_prefix("bytes=")
        .and_then(|set| set.split_once('-'));
    let numbers = bounds.map(|(first, last)| (first.parse::<u64>(), last.parse::<u64>()));
    matches!(numbers, Some((Ok(first), Ok(last))) if last < first)
}

fn describe(body: Body, digest: &Digest, length: u64) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(DIGEST, digest_value(digest));
    headers.insert(header::ETAG, entity_tag(digest));
    response
}

fn not_modified(digest: &Digest) -> Response {
    let headers = [
        (header::ETAG, entity_tag(digest)),
        (DIGEST, digest_value(digest)),
    ];
    (StatusCode::NOT_MODIFIED, headers).into_response()
}

fn unsatisfiable(size: u64) -> ApiError {
    let value = HeaderValue::try_from(format!("bytes */{size}")).expect("digits are visible ASCII");
    let message = format!("nothing of that range lies within the {size} bytes of the blob");
    ApiError::with_status(
        StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorCode::SizeInvalid,
        message,
    )
    .header(header::CONTENT_RANGE, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_inverted_ranges_are_refused() {
        for range in ["bytes=500-0", " bytes=1-0"] {
            assert!(is_inverted(range), "{range}");
        }
        for range in [
            "bytes=0-0",
            "bytes=0-",
            "bytes=-5",
            "items=5-0",
            "bytes=x-0",
            "bytes=5-0,6-7",
            "",
        ] {
            assert!(!is_inverted(range), "{range}");
        }
    }
}
