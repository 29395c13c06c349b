//! `/token`: tokens for whoever proves who he is, as the distribution project's token service has
//! it (GET with nothing, POST with a refresh token), and by the signature of an SSH key.

use axum::{
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use deploy_spec::{
    ErrorCode, Scope,
    login::{GRANT_TYPE, Statement},
};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde_json::json;

use super::{App, error::ApiError, query::Query};
use crate::auth::{Gatekeeper, Subject};

/// More than a form with hundreds of scopes and a signature has.
const FORM_MAX: usize = 256 << 10;

/// Answers GET: a token for nobody in particular.
pub(crate) async fn get(State(app): State<App>, request: Request) -> Response {
    let query = Query::parse(request.uri().query());
    let scopes: Vec<String> = query.all("scope").map(str::to_owned).collect();
    answer(app.access().gatekeeper(), |gatekeeper| {
        grant(gatekeeper, &Subject::Anonymous, &scopes.join(" "), false)
    })
}

/// Answers POST: a token for whoever has a refresh token, or signed for one.
pub(crate) async fn post(State(app): State<App>, request: Request) -> Response {
    let Ok(body) = axum::body::to_bytes(request.into_body(), FORM_MAX).await else {
        return refused("the form is too long, or broke off").into_response();
    };
    // Forms have plus signs for spaces, unlike addresses.
    let form = String::from_utf8_lossy(&body).replace('+', "%20");
    let form = Query::parse(Some(&form));
    answer(app.access().gatekeeper(), |gatekeeper| {
        let field = |name: &str| form.get(name).unwrap_or_default();
        let scope = field("scope");
        let subject = match field("grant_type") {
            "refresh_token" => gatekeeper
                .refreshed(field("refresh_token"))
                .map_err(|error| refused(&error.to_string()))?,
            GRANT_TYPE => login(gatekeeper, &form, scope)?,
            _ => {
                let message = "grant_type is none that this registry knows";
                return Err(ApiError::with_status(
                    StatusCode::BAD_REQUEST,
                    ErrorCode::Unsupported,
                    message,
                ));
            }
        };
        let offline = field("access_type") == "offline";
        grant(gatekeeper, &subject, scope, offline)
    })
}

/// Answers GET below it: what is signed but once.
pub(crate) async fn nonce(State(app): State<App>) -> Response {
    answer(app.access().gatekeeper(), |gatekeeper| {
        let (nonce, life) = gatekeeper.nonce(Timestamp::now());
        Ok(json!({ "nonce": nonce, "expires_in": life.as_secs() }))
    })
}

fn answer(
    gatekeeper: Option<&Gatekeeper>,
    answer: impl FnOnce(&Gatekeeper) -> Result<serde_json::Value, ApiError>,
) -> Response {
    let answered = match gatekeeper {
        Some(gatekeeper) => answer(gatekeeper),
        // Nobody needs one.
        None => Err(ApiError::with_status(
            StatusCode::NOT_FOUND,
            ErrorCode::Unsupported,
            "there is no such endpoint",
        )),
    };
    let mut response = match answered {
        Ok(json) => axum::Json(json).into_response(),
        Err(error) => error.into_response(),
    };
    // RFC 6749 §5.1.
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}

fn login(gatekeeper: &Gatekeeper, form: &Query, scope: &str) -> Result<Subject, ApiError> {
    let field = |name: &str| form.get(name).unwrap_or_default();
    let time = field("time").parse().ok();
    let time = time.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let statement = Statement {
        service: field("service"),
        registry: field("registry"),
        scope,
        time: time.unwrap_or(Timestamp::UNIX_EPOCH),
        nonce: field("nonce"),
    };
    gatekeeper
        .login(&statement, field("signature"), Timestamp::now())
        .map_err(|error| {
            tracing::info!(%error, "somebody was not let in");
            refused("the signature proves nothing: it is of an unknown key, of other words, or of another time")
        })
}

/// Scopes that nobody knows are passed over: asking for too much is no error.
fn grant(
    gatekeeper: &Gatekeeper,
    subject: &Subject,
    scope: &str,
    offline: bool,
) -> Result<serde_json::Value, ApiError> {
    let scopes = scope
        .split_whitespace()
        .filter_map(|text| text.parse().ok());
    let scopes: Vec<Scope> = scopes.collect();
    let now = Timestamp::now();
    let token = gatekeeper.token(subject, &scopes, now);
    let (token, life) = token.ok_or_else(|| refused("this needs a key that the registry knows"))?;
    let mut answer = json!({
        "token": token,
        "access_token": token,
        "expires_in": life.as_secs(),
        "issued_at": now.to_string(),
    });
    if offline {
        answer["refresh_token"] = gatekeeper.refresh_token(subject, now).into();
    }
    Ok(answer)
}

fn refused(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Unauthorized, message)
}
