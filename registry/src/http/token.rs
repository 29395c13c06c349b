//! `/token`: tokens for whoever proves who he is, as the distribution project's token service has it
//! (GET with a password or nothing, POST with a refresh token or a password), and by the signature of
//! an SSH key.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use deploy_spec::{
    ErrorCode, Scope,
    login::{GRANT_TYPE, NONCE_PATH, Statement},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::sleep;

use super::{
    App,
    access::{SERVICE, TOKEN_PATH},
    audit,
    error::ApiError,
    query::Query,
    trace::Peer,
};
use crate::{
    audit::Origin,
    auth::{Denied, Gatekeeper, Password, Proof, Proven, TOKEN_USER},
    metrics::{LoginKind, LoginOutcome},
};

/// More than a form with hundreds of scopes and a signature has.
const FORM_MAX: usize = 256 << 10;
/// What everybody is told who is not let in, whatever is wrong: nobody learns who is known.
const WRONG: &str = "this is nobody whom the registry knows, or the password is wrong, or its proof has expired or was used before";

/// How long somebody waits whose login could not be noted.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether this path is the endpoint's, or below it.
pub(crate) fn is_route(path: &str) -> bool {
    let rest = path.strip_prefix(TOKEN_PATH);
    rest.is_some_and(|rest| rest.is_empty() || rest == NONCE_PATH)
}

/// What a client asks for.
struct Wanted<'a> {
    proof: Proof<'a>,
    /// With spaces between them.
    scopes: &'a str,
    /// Whether it wants a token for more tokens too.
    offline: bool,
}

/// Answers GET: a token for nobody in particular, or for whoever sends name and password.
pub(crate) async fn get(State(app): State<App>, request: Request) -> Response {
    let query = Query::form(request.uri().query());
    let scopes: Vec<&str> = query.all("scope").collect();
    let basic = basic(request.headers());
    let wanted = Wanted {
        proof: match &basic {
            Ok(None) => Proof::Nothing,
            Ok(Some((name, password))) => by_name(name, password),
            Err(NotBasic) => Proof::Garbage,
        },
        scopes: &scopes.join(" "),
        offline: query.get("offline_token") == Some("true"),
    };
    answer(token(&app, &Client::of(&request), wanted).await)
}

/// Answers POST: a token for whoever has a refresh token or a password, or signed for one.
pub(crate) async fn post(State(app): State<App>, request: Request) -> Response {
    let client = Client::of(&request);
    if let Err(none) = gatekeeper(&app) {
        return answer(Err(none));
    }
    let Ok(body) = axum::body::to_bytes(request.into_body(), FORM_MAX).await else {
        return answer(Err(bad_request("the form is too long, or broke off")));
    };
    let form = Query::form(Some(&String::from_utf8_lossy(&body)));
    let field = |name: &str| form.get(name).unwrap_or_default();
    let proof = match field("grant_type") {
        "refresh_token" => Proof::Refresh(field("refresh_token")),
        "password" => by_name(field("username"), field("password")),
        GRANT_TYPE => signature(&form),
        _ => {
            let message = "`grant_type` is none that this registry knows";
            return answer(Err(bad_request(message)));
        }
    };
    let wanted = Wanted {
        proof,
        scopes: field("scope"),
        offline: field("access_type") == "offline",
    };
    answer(token(&app, &client, wanted).await)
}

/// Answers GET below it: what is signed but once.
pub(crate) async fn nonce(State(app): State<App>) -> Response {
    answer(gatekeeper(&app).map(|gatekeeper| {
        let (nonce, life) = gatekeeper.nonce(Timestamp::now());
        json!({ "nonce": nonce, "expires_in": life.as_secs() })
    }))
}

/// Credentials that nobody can read.
struct NotBasic;

/// Returns the name and the password in these headers (RFC 7617), where there are any. A token for
/// requests is of no use here, and stands in nobody's way.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, NotBasic> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let encoded = match value.to_str().map_err(|_| NotBasic)?.split_once(' ') {
        Some((scheme, encoded)) if scheme.eq_ignore_ascii_case("basic") => encoded.trim(),
        _ => return Ok(None),
    };
    let decoded = STANDARD.decode(encoded).map_err(|_| NotBasic)?;
    let decoded = String::from_utf8(decoded).map_err(|_| NotBasic)?;
    let (name, password) = decoded.split_once(':').ok_or(NotBasic)?;
    Ok(Some((name.to_owned(), password.to_owned())))
}

fn by_name<'a>(name: &'a str, password: &'a str) -> Proof<'a> {
    match (name, password) {
        // As clients send it that have no credentials at all.
        ("", "") => Proof::Nothing,
        // Clients that keep a token keep it under this name.
        (TOKEN_USER, token) => Proof::Refresh(token),
        (name, password) => Proof::Password {
            name,
            password: Password::new(password),
        },
    }
}

fn signature(form: &Query) -> Proof<'_> {
    let field = |name: &str| form.get(name).unwrap_or_default();
    let time = field("time").parse().ok();
    let time = time.and_then(|seconds| Timestamp::from_second(seconds).ok());
    Proof::Signature {
        statement: Statement {
            service: field("service"),
            registry: field("registry"),
            scope: field("scope"),
            time: time.unwrap_or(Timestamp::UNIX_EPOCH),
            nonce: field("nonce"),
        },
        signature: field("signature"),
    }
}

/// Who asks, before he says who he is.
struct Client {
    address: IpAddr,
    origin: Origin,
    /// Method and path.
    asked: String,
}

impl Client {
    fn of(request: &Request) -> Self {
        let peer = request.extensions().get::<Peer>();
        Self {
            address: peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |Peer(peer)| peer.ip()),
            origin: audit::origin(request),
            asked: format!("{} {TOKEN_PATH}", request.method()),
        }
    }
}

fn gatekeeper(app: &App) -> Result<&Gatekeeper, ApiError> {
    // Nobody needs a token where nobody is known.
    app.access().gatekeeper().ok_or_else(|| {
        ApiError::with_status(
            StatusCode::NOT_FOUND,
            ErrorCode::Unsupported,
            "there is no such endpoint",
        )
    })
}

/// Lets somebody in and returns what he gets: a token for what he may do of what he asks for.
async fn token(
    app: &App,
    client: &Client,
    wanted: Wanted<'_>,
) -> Result<serde_json::Value, ApiError> {
    let gatekeeper = gatekeeper(app)?;
    let now = Timestamp::now();
    let entered = gatekeeper.enter(client.address, &wanted.proof, now).await;
    concluded(app, client, &wanted.proof, &entered);
    audit::concluded(app, &client.origin, &client.asked, &wanted.proof, &entered);
    match entered {
        // Somebody who is not known any more since then is one who never was.
        Ok(proven) => grant(gatekeeper, &proven, &wanted).ok_or_else(wrong),
        Err(Denied::Refused { wait, .. }) => {
            sleep(wait).await;
            Err(wrong())
        }
        Err(Denied::HeldOff(again)) => {
            let message = "too many logins of this client failed: it has to wait";
            Err(ApiError::too_many(again, message))
        }
        Err(Denied::Busy(again)) => {
            let message = "the registry checks too many passwords at the moment";
            Err(ApiError::busy(again, message))
        }
        Err(Denied::Unnoted) => {
            let message = "the registry's storage does not answer at the moment, and a login by key is noted there";
            Err(ApiError::busy(AGAIN, message))
        }
    }
}

/// Says how it went with somebody who wanted to be let in: the one place that all of them come by.
fn concluded(app: &App, client: &Client, proof: &Proof<'_>, entered: &Result<Proven, Denied>) {
    let client = client.address;
    let kind = match proof {
        Proof::Nothing => LoginKind::Anonymous,
        Proof::Password { .. } | Proof::Garbage => LoginKind::Password,
        Proof::Refresh(_) => LoginKind::Refresh,
        Proof::Signature { .. } => LoginKind::Key,
    };
    let outcome = match entered {
        Ok(_) => LoginOutcome::Done,
        Err(Denied::Refused { .. }) => LoginOutcome::Failed,
        Err(Denied::HeldOff(_)) => LoginOutcome::HeldOff,
        Err(Denied::Busy(_)) => LoginOutcome::Busy,
        Err(Denied::Unnoted) => LoginOutcome::Unnoted,
    };
    app.metrics().logins().concluded(kind, outcome);
    let kind = kind.name();
    let claimed = proof.claimed();
    match entered {
        Ok(proven) => tracing::debug!(%client, kind, subject = %proven.subject, "let in"),
        Err(Denied::Refused { fault, .. }) if matches!(proof, Proof::Nothing) => {
            tracing::debug!(%client, kind, %fault, "not let in");
        }
        Err(Denied::Refused { fault, .. }) => {
            tracing::info!(%client, kind, claimed, %fault, "not let in");
        }
        Err(Denied::HeldOff(again)) => {
            tracing::info!(%client, kind, claimed, seconds = again.as_secs(), "not let in: too many failures");
        }
        Err(Denied::Busy(_)) => {
            tracing::warn!(%client, kind, claimed, "not let in: too many passwords are checked at once");
        }
        // The reason was logged where it came up.
        Err(Denied::Unnoted) => {}
    }
}

/// Returns the answer with a token. Scopes that nobody knows are passed over: asking for too much is
/// no error.
fn grant(
    gatekeeper: &Gatekeeper,
    proven: &Proven,
    wanted: &Wanted<'_>,
) -> Option<serde_json::Value> {
    let scopes = wanted.scopes.split_whitespace();
    let scopes: Vec<Scope> = scopes.filter_map(|text| text.parse().ok()).collect();
    let now = Timestamp::now();
    let (token, life) = gatekeeper.token(proven, &scopes, now)?;
    let mut answer = json!({
        "token": token,
        "access_token": token,
        "expires_in": life.as_secs(),
        "issued_at": now.to_string(),
    });
    let refresh = match wanted.proof {
        // Another one would go on for ever without anybody proving anything.
        Proof::Refresh(token) => Some(token.to_owned()),
        _ => gatekeeper.refresh_token(proven, now),
    };
    if let Some(refresh) = refresh.filter(|_| wanted.offline) {
        answer["refresh_token"] = refresh.into();
    }
    Some(answer)
}

fn wrong() -> ApiError {
    let challenge = format!("Basic realm=\"{SERVICE}\"");
    let challenge = HeaderValue::try_from(challenge).expect("it is visible ASCII");
    ApiError::new(ErrorCode::Unauthorized, WRONG).header(header::WWW_AUTHENTICATE, challenge)
}

fn bad_request(message: &str) -> ApiError {
    ApiError::with_status(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message)
}

fn answer(answered: Result<serde_json::Value, ApiError>) -> Response {
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
