//! `/v2/<name>/tags/list`: the tags of a repository, in pages.

use axum::{Json, extract::Request, response::IntoResponse as _};
use deploy_spec::{ErrorCode, NameError, RepositoryName, Tag, listing::TagList};
use http::header;

use super::{
    App,
    error::{ApiError, Result},
    pages,
    query::Query,
};

pub(crate) async fn list(app: App, name: RepositoryName, request: Request) -> Result {
    let query = Query::parse(request.uri().query());
    let limit = pages::limit(&query, ErrorCode::NameInvalid)?;
    let last: Option<Tag> = match query.get("last").filter(|last| !last.is_empty()) {
        None => None,
        Some(last) => Some(last.parse().map_err(|error: NameError| {
            ApiError::new(ErrorCode::NameInvalid, error.to_string())
        })?),
    };
    let page = app.store().tags(&name, last.as_ref(), limit).await?;
    let body = TagList {
        name: name.to_string(),
        tags: page.items.iter().map(Tag::to_string).collect(),
    };
    let mut response = Json(body).into_response();
    if let Some(last) = page.items.last().filter(|_| page.more) {
        let path = format!("/v2/{name}/tags/list");
        let link = pages::link(&path, &query, last.as_str(), &["n"]);
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}
