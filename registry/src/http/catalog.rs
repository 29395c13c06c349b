//! `/v2/_catalog`: the repositories of the registry, in pages, as distribution made it usual.

use axum::{Json, extract::Request, response::IntoResponse as _};
use deploy_spec::{ErrorCode, NameError, RepositoryName, listing::Catalog};
use http::header;

use super::{
    App,
    error::{ApiError, Result},
    pages,
    query::Query,
};

pub(crate) async fn list(app: App, request: Request) -> Result {
    let query = Query::parse(request.uri().query());
    let limit = pages::limit(&query, ErrorCode::NameInvalid)?;
    let last: Option<RepositoryName> = match query.get("last").filter(|last| !last.is_empty()) {
        None => None,
        Some(last) => Some(last.parse().map_err(|error: NameError| {
            ApiError::new(ErrorCode::NameInvalid, error.to_string())
        })?),
    };
    let page = app.store().repositories(last.as_ref(), limit).await?;
    let body = Catalog {
        repositories: page.items.iter().map(RepositoryName::to_string).collect(),
    };
    let mut response = Json(body).into_response();
    if let Some(last) = page.items.last().filter(|_| page.more) {
        let link = pages::link("/v2/_catalog", &query, last.as_str(), &["n"]);
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}
