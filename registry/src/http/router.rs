//! The routes: what each resource does with each method. The whole API at one glance.

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use deploy_spec::login::NONCE_PATH;
use http::Method;

use super::{
    App,
    access::{Asked, Refusal, Scheme, TOKEN_PATH},
    audit, blobs,
    body::Incoming,
    catalog,
    error::{ApiError, Result},
    extensions, manifests, operation,
    path::{PathError, Resource},
    referrers, tags, token, trace, uploads,
};

/// Returns the service for all requests.
pub(crate) fn service(app: App) -> Router {
    Router::new()
        .route("/healthz", get(operation::live))
        .route("/readyz", get(operation::ready))
        .route("/metrics", get(operation::metrics))
        .route(TOKEN_PATH, get(token::get).post(token::post))
        .route(&format!("{TOKEN_PATH}{NONCE_PATH}"), get(token::nonce))
        .fallback(any(dispatch))
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            trace::request,
        ))
        .with_state(app)
}

async fn dispatch(State(app): State<App>, request: Request) -> Response {
    match route(app, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn route(app: App, mut request: Request) -> Result {
    // `trace` has read the path before.
    let resource = (request.extensions_mut())
        .remove::<std::result::Result<Resource, PathError>>()
        .unwrap_or_else(|| Resource::parse(request.uri().path()))?;
    let method = request.method().clone();
    let get = method == Method::GET || method == Method::HEAD;
    let asked = Asked {
        scheme: Scheme::of(
            request.extensions().get().copied().unwrap_or(Scheme::Http),
            request.headers(),
        ),
        uri: request.uri(),
        method: &method,
        headers: request.headers(),
    };
    let passage = match app.access().admit(&resource, &asked) {
        Ok(passage) => passage,
        Err(refusal) => return Err(refuse(&app, &resource, request, *refusal).await),
    };
    tracing::debug!(caller = %passage.caller(), "admitted");
    let witness = audit::witness(&app, &resource, &request, &passage);
    request.extensions_mut().insert(passage);
    match resource {
        Resource::Api if get => Ok(operation::api()),
        Resource::Catalog if get => catalog::list(app, request).await,
        Resource::Extensions if get => Ok(extensions::discover()),
        Resource::Audit if get => audit::list(app, request).await,

        Resource::Blob(name, digest) => match method {
            Method::GET => blobs::get(app, name, digest, request).await,
            Method::HEAD => blobs::head(app, name, digest, request).await,
            Method::DELETE => blobs::delete(app, witness, name, digest).await,
            _ => Err(ApiError::method_not_allowed("GET, HEAD, DELETE")),
        },
        Resource::Uploads(name) => match method {
            Method::POST => uploads::start(app, witness, name, request).await,
            _ => Err(ApiError::method_not_allowed("POST")),
        },
        Resource::Upload(name, id) => match method {
            Method::GET | Method::HEAD => uploads::status(app, name, id).await,
            Method::PATCH => uploads::append(app, name, id, request).await,
            Method::PUT => uploads::finish(app, witness, name, id, request).await,
            Method::DELETE => uploads::cancel(app, name, id).await,
            _ => Err(ApiError::method_not_allowed(
                "GET, HEAD, PATCH, PUT, DELETE",
            )),
        },
        Resource::Manifest(name, reference) => match method {
            Method::GET => manifests::get(app, name, reference, request).await,
            Method::HEAD => manifests::head(app, name, reference, request).await,
            Method::PUT => manifests::put(app, witness, name, reference, request).await,
            Method::DELETE => manifests::delete(app, witness, name, reference).await,
            _ => Err(ApiError::method_not_allowed("GET, HEAD, PUT, DELETE")),
        },
        Resource::Tags(name) if get => tags::list(app, name, request).await,
        Resource::Referrers(name, digest) if get => {
            referrers::list(app, name, digest, request).await
        }

        Resource::Api
        | Resource::Catalog
        | Resource::Extensions
        | Resource::Audit
        | Resource::Tags(_)
        | Resource::Referrers(..) => Err(ApiError::method_not_allowed("GET, HEAD")),
    }
}

/// Returns what the client of a request is told that is not admitted: the one place that all of them
/// come by.
async fn refuse(app: &App, resource: &Resource, request: Request, refusal: Refusal) -> ApiError {
    audit::refused(app, resource, &request, &refusal);
    let Refusal {
        reason,
        caller,
        answer,
    } = refusal;
    app.metrics().logins().refused(reason);
    let caller = caller.as_ref().map(tracing::field::display);
    tracing::debug!(reason = reason.name(), caller, "not admitted");
    // Who pushes looks for the answer only when everything is sent.
    Incoming::new(request.into_body(), app.idle()).drain().await;
    answer
}
