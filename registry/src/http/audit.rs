//! `/v2/_deploytools/audit`: who did what, in pages; and what is written down of requests. The
//! one place that knows what the log wants to know of a request.

use axum::{Json, extract::Request, response::IntoResponse as _};
use deploy_spec::{ErrorCode, audit::Page};
use http::{HeaderMap, Method, StatusCode, header};

use super::{
    App,
    access::{Passage, Reason, Refusal},
    error::{ApiError, Result},
    pages,
    path::Resource,
    query::Query,
    trace::{Peer, RequestId},
};
use crate::{
    audit::{Attempt, Origin, Question, Witness, read},
    auth::{Caller, Denied, Proof, Proven},
    store::causes,
};

/// A page holds no more lines than this.
const LINES_MAX: usize = 1000;

/// Answers GET: lines, oldest first. What this process has not written down yet is written down
/// first.
pub(crate) async fn list(app: App, request: Request) -> Result {
    let query = Query::parse(request.uri().query());
    let question = Question {
        since: parameter(&query, "since", "a time, as `2026-01-02T03:04:05Z`")?,
        until: parameter(&query, "until", "a time, as `2026-01-02T03:04:05Z`")?,
        repository: parameter(&query, "repository", "the name of a repository")?,
        after: parameter(&query, "last", "what a link to a next page names")?,
        limit: pages::limit(&query, ErrorCode::Unsupported)?.min(LINES_MAX),
    };
    if let Err(error) = app.audit().flush().await {
        tracing::warn!(cause = causes(&error), "cannot write the audit log");
    }
    let answer = read(app.store(), &question).await?;
    let mut response = Json(Page {
        entries: answer.entries,
    })
    .into_response();
    if let Some(next) = answer.next {
        let keep = ["since", "until", "repository", "n"];
        let link = pages::link(deploy_spec::audit::PATH, &query, &next.to_string(), &keep);
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

fn parameter<T: std::str::FromStr>(query: &Query, name: &str, expected: &str) -> Result<Option<T>> {
    let Some(text) = query.get(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let parsed = text.parse().map_err(|_| {
        let message = format!(
            "parameter `{name}` must be {expected}, not `{}`",
            text.escape_debug()
        );
        ApiError::with_status(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message)
    });
    parsed.map(Some)
}

/// Returns who writes down what comes of a request that was admitted; nobody, where it cannot
/// change anything.
pub(crate) fn witness(
    app: &App,
    resource: &Resource,
    request: &Request,
    passage: &Passage,
) -> Witness {
    if !app.audit().is_on() || is_read(request.method()) {
        return Witness::default();
    }
    let witness = Witness::new(app.audit(), &passage.caller(), origin(request));
    if let (Passage::Permit(_), Some(repository)) = (passage, resource.repository()) {
        witness.admitted(repository);
    }
    witness
}

/// Writes down that a request was refused.
///
/// That nobody may read without a token is no attempt: so clients learn to bring one. Nor is it one
/// to write without, where a token comes soon after.
pub(crate) fn refused(app: &App, resource: &Resource, request: &Request, refusal: &Refusal) {
    let reads = is_read(request.method());
    if !app.audit().is_on() || (reads && refusal.reason == Reason::NoToken) {
        return;
    }
    let caller = refusal.caller.clone().unwrap_or_else(Caller::anonymous);
    let witness = Witness::new(app.audit(), &caller, origin(request));
    let attempt = Attempt {
        asked: format!("{} {}", request.method(), request.uri().path()),
        repository: resource.repository().cloned(),
        reference: resource.reference(),
        status: refusal.answer.status().as_u16(),
        reason: refusal.answer.message().to_owned(),
    };
    match refusal.reason {
        Reason::NoToken => witness.challenged(attempt),
        _ => witness.refused(attempt),
    }
}

/// Writes down how it went with somebody who wanted a token. Who has a refresh token has proved who he
/// is before, and nobody in particular proves nothing.
pub(crate) fn concluded(
    app: &App,
    origin: &Origin,
    asked: &str,
    proof: &Proof<'_>,
    entered: &std::result::Result<Proven, Denied>,
) {
    if !app.audit().is_on() {
        return;
    }
    let (status, why) = match entered {
        Ok(proven) => {
            if let (Some(gatekeeper), Proof::Password { .. } | Proof::Signature { .. }) =
                (app.access().gatekeeper(), proof)
            {
                let caller = gatekeeper.caller(&proven.subject);
                Witness::new(app.audit(), &caller, origin.clone()).logged_in();
            }
            return;
        }
        Err(Denied::Refused { fault, .. }) => (StatusCode::UNAUTHORIZED, fault.to_string()),
        Err(Denied::HeldOff(_)) => {
            let why = "too many logins of this client failed";
            (StatusCode::TOO_MANY_REQUESTS, why.to_owned())
        }
        // Whoever it was, it was the registry that could not.
        Err(Denied::Busy(_) | Denied::Unnoted) => return,
    };
    let reason = match proof.claimed() {
        Some(claimed) => format!("{why}: somebody who says that he is {claimed}"),
        None => why,
    };
    let witness = Witness::new(app.audit(), &Caller::anonymous(), origin.clone());
    witness.refused(Attempt {
        asked: asked.to_owned(),
        repository: None,
        reference: None,
        status: status.as_u16(),
        reason,
    });
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Returns where a request comes from.
pub(crate) fn origin(request: &Request) -> Origin {
    let extensions = request.extensions();
    let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
    let agent = |headers: &HeaderMap| headers.get(header::USER_AGENT).and_then(text);
    Origin {
        peer: extensions.get::<Peer>().map(|Peer(peer)| *peer),
        request: extensions
            .get::<RequestId>()
            .and_then(|RequestId(id)| text(id)),
        agent: agent(request.headers()),
    }
}
