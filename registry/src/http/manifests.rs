//! `/v2/<name>/manifests/<reference>`: pulling, watching, pushing and deleting manifests.

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use deploy_spec::{Digest, ErrorCode, NameError, Reference, RepositoryName, Tag};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::time::Instant;

use super::{
    App,
    body::Incoming,
    conditions::{self, entity_tag, is_known},
    error::{ApiError, Result},
    headers::{DIGEST, digest_value},
    query::Query,
};
use crate::{
    audit::Witness,
    store::{Changes, NewManifest, StoreError, TagRecord},
};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Most tags taken with one manifest. The specification asks for 10 at least.
const TAGS_MAX: usize = 100;

/// The manifest, byte for byte as it was pushed.
pub(crate) async fn get(
    app: App,
    name: RepositoryName,
    reference: Reference,
    request: Request,
) -> Result {
    let headers = request.headers();
    let waited = match watch(&app, &name, &reference, headers).await? {
        Watched::Unchanged(response) => return Ok(response),
        Watched::Look(waited) => waited,
    };
    let manifest = app.store().manifest(&name, &reference).await?;
    if is_known(headers, &manifest.digest) {
        return Ok(not_modified(&manifest.digest, waited));
    }
    let size = manifest.bytes.len() as u64;
    let body = Body::from(manifest.bytes);
    Ok(describe(
        body,
        &manifest.digest,
        &manifest.media_type,
        size,
        waited,
    ))
}

/// What is known of the manifest without its bytes.
pub(crate) async fn head(
    app: App,
    name: RepositoryName,
    reference: Reference,
    request: Request,
) -> Result {
    let headers = request.headers();
    let waited = match watch(&app, &name, &reference, headers).await? {
        Watched::Unchanged(response) => return Ok(response),
        Watched::Look(waited) => waited,
    };
    let found = app.store().resolve(&name, &reference).await?;
    if is_known(headers, &found.digest) {
        return Ok(not_modified(&found.digest, waited));
    }
    Ok(describe(
        Body::empty(),
        &found.digest,
        &found.media_type,
        found.size,
        waited,
    ))
}

/// What came of a long poll.
enum Watched {
    /// The time is over, and the client has what there is.
    Unchanged(Response),
    /// There may be news, or the client did not ask to wait.
    Look(Option<HeaderValue>),
}

/// Holds a request back that prefers to wait and has what the tag means, until the tag means
/// something else, the time is over, or the server stops.
async fn watch(
    app: &App,
    name: &RepositoryName,
    reference: &Reference,
    headers: &HeaderMap,
) -> Result<Watched> {
    let (Reference::Tag(tag), Some(wait)) = (reference, conditions::wait(headers)) else {
        return Ok(Watched::Look(None));
    };
    if !headers.contains_key(header::IF_NONE_MATCH) {
        return Ok(Watched::Look(None));
    }
    let deadline = Instant::now() + wait;
    let applied = HeaderValue::try_from(format!("wait={}", wait.as_secs()))
        .expect("digits are visible ASCII");
    // From before the first look, or a change in between would be missed.
    let mut changes = app.store().watch_tag(name, tag);
    loop {
        let found: TagRecord = match app.store().resolve(name, reference).await {
            Err(StoreError::ManifestUnknown(_)) => return Ok(Watched::Look(Some(applied))),
            found => found?,
        };
        if !is_known(headers, &found.digest) {
            return Ok(Watched::Look(Some(applied)));
        }
        tokio::select! {
            () = changes.changed() => {}
            () = tokio::time::sleep_until(deadline) => {
                return Ok(Watched::Unchanged(not_modified(&found.digest, Some(applied))));
            }
            () = app.stopped() => {
                return Ok(Watched::Unchanged(not_modified(&found.digest, Some(applied))));
            }
        }
    }
}

/// Stores a manifest, under conditions where the client sets any.
pub(crate) async fn put(
    app: App,
    witness: Witness,
    name: RepositoryName,
    reference: Reference,
    request: Request,
) -> Result {
    let (head, body) = request.into_parts();
    let body = Incoming::new(body, app.idle());
    let limit = app.limiter().manifest_size();
    let bytes = body.collect(&head.headers, limit).await?;
    let tags = parameter_tags(&Query::parse(head.uri.query()), &reference)?;
    let condition = conditions::of_write(&head.headers);
    let content_type = (head.headers.get(header::CONTENT_TYPE))
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let work = {
        let (app, name, reference, tags) =
            (app.clone(), name.clone(), reference.clone(), tags.clone());
        async move {
            let new = NewManifest {
                reference: &reference,
                tags: &tags,
                content_type: content_type.as_deref(),
                bytes,
                condition,
            };
            let changes = Changes::default();
            let done = (app.store().put_manifest_noting(&name, new, &changes)).await;
            witness.saw_all(&name, changes);
            done
        }
    };
    let stored = app.run(work).await?;
    let location = format!("/v2/{name}/manifests/{}", stored.digest);
    let location = HeaderValue::try_from(location).expect("names and digests are visible ASCII");
    let headers = [
        (header::LOCATION, location),
        (DIGEST, digest_value(&stored.digest)),
        (header::ETAG, entity_tag(&stored.digest)),
    ];
    let mut response = (StatusCode::CREATED, headers).into_response();
    if let Some(subject) = &stored.subject {
        response
            .headers_mut()
            .insert(SUBJECT, digest_value(subject));
    }
    if stored.missing > 0 {
        let missing = stored.missing;
        let text = format!(
            "299 - \"{missing} of the layers or manifests that this one names are not in this repository\""
        );
        let text = HeaderValue::try_from(text).expect("the text is visible ASCII");
        response.headers_mut().insert(header::WARNING, text);
    }
    for tag in &tags {
        let tag = HeaderValue::try_from(tag.as_str()).expect("tags are visible ASCII");
        response.headers_mut().append(TAG, tag);
    }
    Ok(response)
}

/// Returns the tags that the manifest gets besides what it is pushed as.
fn parameter_tags(query: &Query, reference: &Reference) -> Result<Vec<Tag>> {
    if matches!(reference, Reference::Tag(_)) {
        return Ok(Vec::new());
    }
    let mut tags = Vec::new();
    for text in query.all("tag") {
        let tag = (text.parse()).map_err(|error: NameError| {
            ApiError::new(ErrorCode::ManifestInvalid, error.to_string())
        })?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if tags.len() > TAGS_MAX {
        return Err(ApiError::with_status(
            StatusCode::URI_TOO_LONG,
            ErrorCode::ManifestInvalid,
            format!("a manifest takes {TAGS_MAX} tags at a time"),
        ));
    }
    Ok(tags)
}

/// Removes a tag, or a manifest with all its tags.
pub(crate) async fn delete(
    app: App,
    witness: Witness,
    name: RepositoryName,
    reference: Reference,
) -> Result {
    let work = {
        let app = app.clone();
        async move {
            let (store, changes) = (app.store(), Changes::default());
            let done = match &reference {
                Reference::Tag(tag) => store.delete_tag_noting(&name, tag, &changes).await,
                Reference::Digest(digest) => {
                    (store.delete_manifest_noting(&name, digest, &changes)).await
                }
            };
            witness.saw_all(&name, changes);
            done
        }
    };
    app.run(work).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

fn describe(
    body: Body,
    digest: &Digest,
    media_type: &str,
    size: u64,
    waited: Option<HeaderValue>,
) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    if let Ok(media_type) = HeaderValue::try_from(media_type) {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    identify(headers, digest, waited);
    response
}

fn not_modified(digest: &Digest, waited: Option<HeaderValue>) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    identify(response.headers_mut(), digest, waited);
    response
}

fn identify(headers: &mut HeaderMap, digest: &Digest, waited: Option<HeaderValue>) {
    headers.insert(DIGEST, digest_value(digest));
    headers.insert(header::ETAG, entity_tag(digest));
    if let Some(waited) = waited {
        headers.insert(PREFERENCE_APPLIED, waited);
    }
}
