//! `/v2/<name>/blobs/uploads/`: pushing blobs in every style, and mounting them.

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
};
use deploy_spec::{
    Algorithm, Digest, ErrorCode, RepositoryName,
    range::{ByteRange, ContentRangeError},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    App,
    access::Passage,
    body::{Incoming, content_length},
    error::{ApiError, Result},
    headers::{DIGEST, digest_value},
    query::Query,
};
use crate::{
    audit::Witness,
    limits::UploadSlot,
    store::{Change, StoreError, Upload, UploadId},
};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Mounts a blob, stores one at once, or begins an upload.
pub(crate) async fn start(
    app: App,
    witness: Witness,
    name: RepositoryName,
    request: Request,
) -> Result {
    let query = Query::parse(request.uri().query());
    if let Some(mount) = query.get("mount") {
        let digest: Digest = mount.parse().map_err(ApiError::digest)?;
        let passage = request.extensions().get::<Passage>();
        if mount_blob(&app, &name, &digest, query.get("from"), passage).await? {
            witness.saw(&name, Change::BlobPut(digest.clone()));
            return Ok(created(&name, &digest));
        }
    } else if let Some(digest) = query.get("digest") {
        let digest: Digest = digest.parse().map_err(ApiError::digest)?;
        return put(app, witness, name, digest, request).await;
    }
    let algorithm = match query.get("digest-algorithm") {
        None => Algorithm::Sha256,
        Some(algorithm) => algorithm.parse().map_err(ApiError::digest)?,
    };
    let upload = app.store().start_upload(&name, algorithm).await?;
    Ok(progress(StatusCode::ACCEPTED, &name, &upload))
}

async fn mount_blob(
    app: &App,
    name: &RepositoryName,
    digest: &Digest,
    from: Option<&str>,
    passage: Option<&Passage>,
) -> Result<bool> {
    let from: Option<RepositoryName> = match from {
        Some(from) if !from.is_empty() => {
            Some(from.parse().map_err(|error: deploy_spec::NameError| {
                ApiError::new(ErrorCode::NameInvalid, error.to_string())
            })?)
        }
        _ => None,
    };
    if !passage.is_some_and(|passage| passage.may_mount_from(from.as_ref())) {
        return Ok(false);
    }
    Ok(app.store().mount_blob(name, from.as_ref(), digest).await?)
}

async fn put(
    app: App,
    witness: Witness,
    name: RepositoryName,
    digest: Digest,
    request: Request,
) -> Result {
    let (head, body) = request.into_parts();
    let body = Incoming::new(body, app.idle());
    let (mut body, slot) = admitted(&app, &head.headers, body).await?;
    let work = {
        let (app, name, digest) = (app.clone(), name.clone(), digest.clone());
        async move {
            let _slot = (slot, app.metrics().requests().upload());
            let done = app.store().put_blob(&name, &mut body, &digest).await;
            if done.is_ok() {
                witness.saw(&name, Change::BlobPut(digest));
            }
            settle(done, body).await
        }
    };
    app.run(work).await?;
    Ok(created(&name, &digest))
}

/// How far the upload has got.
pub(crate) async fn status(app: App, name: RepositoryName, id: Option<UploadId>) -> Result {
    let upload = app.store().upload(&name, &known(id)?).await?;
    Ok(progress(StatusCode::NO_CONTENT, &name, &upload))
}

/// One more chunk.
pub(crate) async fn append(
    app: App,
    name: RepositoryName,
    id: Option<UploadId>,
    request: Request,
) -> Result {
    let id = known(id)?;
    let (head, body) = request.into_parts();
    let body = Incoming::new(body, app.idle());
    let range = match chunk_range(&head.headers) {
        Ok(range) => range,
        Err(error) => {
            body.drain().await;
            return Err(error);
        }
    };
    let (mut body, slot) = admitted(&app, &head.headers, body).await?;
    let work = {
        let (app, name, id) = (app.clone(), name.clone(), id.clone());
        async move {
            let _slot = (slot, app.metrics().requests().upload());
            let done = app
                .store()
                .append_upload(&name, &id, range, &mut body)
                .await;
            settle(done, body).await
        }
    };
    match app.run(work).await {
        Ok(upload) => Ok(progress(StatusCode::ACCEPTED, &name, &upload)),
        Err(error) => Err(explain(error, &name, &id)),
    }
}

/// The last chunk, if any, and the blob's digest.
pub(crate) async fn finish(
    app: App,
    witness: Witness,
    name: RepositoryName,
    id: Option<UploadId>,
    request: Request,
) -> Result {
    let id = known(id)?;
    let (head, body) = request.into_parts();
    let query = Query::parse(head.uri.query());
    let body = Incoming::new(body, app.idle());
    let parsed = chunk_range(&head.headers).and_then(|range| {
        let digest = query
            .get("digest")
            .ok_or_else(|| ApiError::digest("parameter `digest` is missing"))?;
        let digest: Digest = digest.parse().map_err(ApiError::digest)?;
        Ok((range, digest))
    });
    let (range, digest) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            body.drain().await;
            return Err(error);
        }
    };
    let (mut body, slot) = admitted(&app, &head.headers, body).await?;
    let work = {
        let (app, name, id, digest) = (app.clone(), name.clone(), id.clone(), digest.clone());
        async move {
            let _slot = (slot, app.metrics().requests().upload());
            let done = (app
                .store()
                .finish_upload(&name, &id, range, &mut body, &digest))
            .await;
            if done.is_ok() {
                witness.saw(&name, Change::BlobPut(digest));
            }
            settle(done, body).await
        }
    };
    match app.run(work).await {
        Ok(()) => Ok(created(&name, &digest)),
        Err(error) => Err(explain(error, &name, &id)),
    }
}

pub(crate) async fn cancel(app: App, name: RepositoryName, id: Option<UploadId>) -> Result {
    app.store().cancel_upload(&name, &known(id)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Returns the body with a place among the uploads that run at once.
///
/// # Errors
/// 503 where there is none for too long. A request without a body needs none.
async fn admitted(
    app: &App,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<(Incoming, Option<UploadSlot>)> {
    if content_length(headers) == Some(0) {
        return Ok((body, None));
    }
    match app.limiter().upload().await {
        Ok(slot) => Ok((body, Some(slot))),
        Err(busy) => {
            body.drain().await;
            let message = "the registry takes no more uploads at the moment";
            Err(ApiError::busy(busy.again, message))
        }
    }
}

/// Where a request failed early, its client may still be sending.
async fn settle<T>(done: Result<T, StoreError>, body: Incoming) -> Result<T, StoreError> {
    if done.is_err() {
        body.drain().await;
    }
    done
}

fn known(id: Option<UploadId>) -> Result<UploadId> {
    id.ok_or_else(|| {
        ApiError::new(
            ErrorCode::BlobUploadUnknown,
            "no such upload in this repository",
        )
    })
}

/// Returns where the chunk belongs, where the client says it.
fn chunk_range(headers: &HeaderMap) -> Result<Option<ByteRange>> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let range: ByteRange = text.parse().map_err(|error: ContentRangeError| {
        ApiError::new(ErrorCode::BlobUploadInvalid, error.to_string())
    })?;
    match content_length(headers) {
        Some(length) if length != range.length() => {
            Err(ApiError::from(StoreError::LengthMismatch {
                announced: range.length(),
                received: length,
            }))
        }
        _ => Ok(Some(range)),
    }
}

/// Tells a client whose chunk came out of order where to go on.
fn explain(error: StoreError, name: &RepositoryName, id: &UploadId) -> ApiError {
    match error {
        StoreError::OutOfOrder { offset, .. } => ApiError::from(error)
            .header(header::LOCATION, location(name, id))
            .header(header::RANGE, received(offset)),
        error => error.into(),
    }
}

fn location(name: &RepositoryName, id: &UploadId) -> HeaderValue {
    let location = format!("/v2/{name}/blobs/uploads/{id}");
    HeaderValue::try_from(location).expect("names and ids are visible ASCII")
}

/// Nothing at all has no place in the grammar of ranges; `0-0` is what registries say then.
fn received(offset: u64) -> HeaderValue {
    let range = format!("0-{}", offset.saturating_sub(1));
    HeaderValue::try_from(range).expect("digits are visible ASCII")
}

fn progress(status: StatusCode, name: &RepositoryName, upload: &Upload) -> Response {
    let id = HeaderValue::try_from(upload.id.to_string()).expect("ids are visible ASCII");
    let headers = [
        (header::LOCATION, location(name, &upload.id)),
        (header::RANGE, received(upload.offset)),
        (UPLOAD_ID, id),
    ];
    (status, headers).into_response()
}

fn created(name: &RepositoryName, digest: &Digest) -> Response {
    let location = format!("/v2/{name}/blobs/{digest}");
    let location = HeaderValue::try_from(location).expect("names and digests are visible ASCII");
    let headers = [(header::LOCATION, location), (DIGEST, digest_value(digest))];
    (StatusCode::CREATED, headers).into_response()
}
