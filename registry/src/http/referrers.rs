//! `/v2/<name>/referrers/<digest>`: the manifests that refer to another one.

use axum::{extract::Request, response::IntoResponse as _};
use deploy_spec::{Digest, ErrorCode, RepositoryName, listing, media_type};
use http::{HeaderName, HeaderValue, header};

use super::{
    App,
    error::{ApiError, Result},
    pages,
    query::Query,
};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const FILTER: &str = "artifactType";
/// Each referrer of a page is read, and its annotations go into the answer.
const PAGE_MAX: usize = 1000;

pub(crate) async fn list(
    app: App,
    name: RepositoryName,
    subject: Digest,
    request: Request,
) -> Result {
    let query = Query::parse(request.uri().query());
    let limit = pages::limit(&query, ErrorCode::NameInvalid)?.clamp(1, PAGE_MAX);
    let artifact_type = query.get(FILTER).filter(|text| !text.is_empty());
    let last: Option<Digest> = match query.get("last").filter(|last| !last.is_empty()) {
        None => None,
        Some(last) => Some(last.parse().map_err(ApiError::digest)?),
    };
    let page = (app
        .store()
        .referrers(&name, &subject, artifact_type, last.as_ref(), limit))
    .await?;
    let body = serde_json::to_vec(&listing::Referrers::new(page.manifests))
        .expect("descriptors are plain structures");
    let content_type = HeaderValue::from_static(media_type::IMAGE_INDEX);
    let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    if artifact_type.is_some() {
        let value = HeaderValue::from_static(FILTER);
        response.headers_mut().insert(FILTERS_APPLIED, value);
    }
    if let Some(next) = page.next {
        let path = format!("/v2/{name}/referrers/{subject}");
        let link = pages::link(&path, &query, &next.to_string(), &[FILTER, "n"]);
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}
