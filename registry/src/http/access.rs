//! Who may do what: asked once for each request, when it begins. Nothing that is refused learns
//! whether what it asks for exists.

use std::sync::Arc;

use deploy_spec::{Actions, ErrorCode, RepositoryName, Scope, scope::Resource as Of};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use jiff::Timestamp;

use super::{error::ApiError, path::Resource, query::Query};
use crate::auth::{Caller, Gatekeeper, Permit, Proven};
pub(crate) use crate::metrics::Reason;

/// What the token endpoint is called, and what tokens are for.
pub(crate) const SERVICE: &str = "deploy-registry";
/// Where it is.
pub(crate) const TOKEN_PATH: &str = "/token";

/// How it is decided who may do what.
#[derive(Clone, Default)]
pub(crate) struct Access {
    /// Who knows people and services; without one everybody may do everything.
    gatekeeper: Option<Arc<Gatekeeper>>,
    /// Nothing is changed, whoever asks.
    read_only: bool,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let guarded = self.gatekeeper.is_some();
        write!(formatter, "Access({guarded}, {})", self.read_only)
    }
}

/// A request that is not admitted.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    /// Who it is of, where its token is good.
    pub(crate) caller: Option<Caller>,
    /// What its client is told.
    pub(crate) answer: ApiError,
}

/// What a request may do beside what it asks for first. In its extensions.
#[derive(Clone, Debug)]
pub(crate) enum Passage {
    /// Everything.
    Open,
    /// What a token says.
    Permit(Permit),
    /// What everybody may.
    Anonymous,
}

impl Passage {
    /// Returns who the request is of.
    pub(crate) fn caller(&self) -> Caller {
        match self {
            Self::Permit(permit) => permit.caller().clone(),
            Self::Open | Self::Anonymous => Caller::anonymous(),
        }
    }

    /// Whether a blob may be mounted from this repository; from any where none is named.
    pub(crate) fn may_mount_from(&self, repository: Option<&RepositoryName>) -> bool {
        match self {
            // Who may push may read what everybody may.
            Self::Open | Self::Anonymous => true,
            Self::Permit(permit) => permit.allows(&source(repository)),
        }
    }
}

/// Where a request came in, for answers that name the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// In the clear.
    Http,
    /// Within TLS.
    Https,
}

impl Scheme {
    /// Returns what the client used to reach us, or to reach a proxy before us that speaks TLS and
    /// says so (`X-Forwarded-Proto`). Whoever says so untruly misleads himself alone.
    pub(crate) fn of(connection: Self, headers: &HeaderMap) -> Self {
        let forwarded = headers.get("x-forwarded-proto");
        let forwarded = forwarded.and_then(|value| value.to_str().ok());
        // The first one is the client's, where there were several proxies.
        let client = forwarded.and_then(|value| value.split(',').next());
        match client.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https")) {
            true => Self::Https,
            false => connection,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What a request says of itself, as far as it matters here.
pub(crate) struct Asked<'a> {
    pub(crate) scheme: Scheme,
    pub(crate) uri: &'a Uri,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
}

impl Access {
    /// Everybody may read, and write unless nothing may be changed.
    pub(crate) fn open(read_only: bool) -> Self {
        Self {
            gatekeeper: None,
            read_only,
        }
    }

    /// Those may whom the gatekeeper knows.
    pub(crate) fn guarded(gatekeeper: Arc<Gatekeeper>, read_only: bool) -> Self {
        Self {
            gatekeeper: Some(gatekeeper),
            read_only,
        }
    }

    /// Returns who gives tokens out.
    pub(crate) fn gatekeeper(&self) -> Option<&Gatekeeper> {
        self.gatekeeper.as_deref()
    }

    /// Decides on a request.
    ///
    /// # Errors
    /// [`Refusal`]: 405 where nothing may be changed; 401 with what to ask the token endpoint for.
    pub(crate) fn admit(
        &self,
        resource: &Resource,
        asked: &Asked<'_>,
    ) -> Result<Passage, Box<Refusal>> {
        let reads = asked.method == Method::GET || asked.method == Method::HEAD;
        if self.read_only && !reads {
            return Err(Box::new(Refusal {
                reason: Reason::ReadOnly,
                caller: None,
                answer: ApiError::read_only(),
            }));
        }
        let Some(gatekeeper) = &self.gatekeeper else {
            return Ok(Passage::Open);
        };
        let wanted = wanted(resource, asked.method);
        let mounted = mounted(resource, asked);
        let scopes: Vec<&Scope> = wanted.iter().chain(&mounted).collect();
        let now = Timestamp::now();
        let refused = |reason, caller| {
            Box::new(Refusal {
                reason,
                caller,
                answer: unauthorized(asked, &scopes, reason),
            })
        };
        let Some(token) = bearer(asked.headers) else {
            let everybody = gatekeeper.grant(&Proven::anonymous(), now);
            let may = everybody.is_some_and(|grant| match (&wanted, resource) {
                (Some(wanted), _) => grant.allowed(wanted) == wanted.actions,
                // Clients learn from `/v2/` that there are tokens to be had.
                (None, resource) => *resource != Resource::Api,
            });
            return match may {
                true => Ok(Passage::Anonymous),
                false => Err(refused(Reason::NoToken, None)),
            };
        };
        let permit = gatekeeper.permit(token, now);
        let permit = permit.map_err(|_| refused(Reason::InvalidToken, None))?;
        let narrow = || {
            let caller = Some(permit.caller().clone());
            Err(refused(Reason::InsufficientScope, caller))
        };
        if let Some(scope) = &wanted
            && !is_allowed(&permit, scope)
        {
            return narrow();
        }
        // Whoever could have had more is told to ask for it; without, nothing could be mounted. Who
        // could not goes on, and pushes what he has.
        match &mounted {
            Some(scope) if !permit.allows(scope) && gatekeeper.could(token, scope, now) => narrow(),
            _ => Ok(Passage::Permit(permit)),
        }
    }
}

/// Returns what mounting a blob from this repository takes beside pushing it; from any where none
/// is named.
fn source(repository: Option<&RepositoryName>) -> Scope {
    match repository {
        Some(name) => Scope {
            resource: Of::Repository(name.clone()),
            actions: Actions::PULL,
        },
        None => Scope {
            resource: Of::Blobs,
            actions: Actions::ALL,
        },
    }
}

/// Returns what a request takes beside pushing, where it mounts a blob. One of a repository that is
/// none is the handler's to refuse.
fn mounted(resource: &Resource, asked: &Asked<'_>) -> Option<Scope> {
    let (Resource::Uploads(_), &Method::POST) = (resource, asked.method) else {
        return None;
    };
    let query = Query::parse(asked.uri.query());
    query.get("mount")?;
    match query.get("from").filter(|from| !from.is_empty()) {
        Some(from) => Some(source(Some(&from.parse().ok()?))),
        None => Some(source(None)),
    }
}

/// Many clients ask for `push` when they are about to remove something.
fn is_allowed(permit: &Permit, wanted: &Scope) -> bool {
    if permit.allows(wanted) {
        return true;
    }
    let push = Actions {
        push: true,
        ..Actions::NONE
    };
    let deletes = wanted.actions.delete && !wanted.actions.push && !wanted.actions.pull;
    let by_push = Scope {
        resource: wanted.resource.clone(),
        actions: push,
    };
    deletes && permit.allows(&by_push)
}

/// Returns what a request needs; nothing where it is enough to be known.
fn wanted(resource: &Resource, method: &Method) -> Option<Scope> {
    let of = |name: &RepositoryName, actions| {
        Some(Scope {
            resource: Of::Repository(name.clone()),
            actions,
        })
    };
    let [push, delete] = [(true, false), (false, true)].map(|(push, delete)| Actions {
        push,
        delete,
        pull: false,
    });
    match resource {
        Resource::Api | Resource::Extensions => None,
        Resource::Catalog => Some(Scope {
            resource: Of::Catalog,
            actions: Actions::ALL,
        }),
        Resource::Audit => Some(Scope {
            resource: Of::Audit,
            actions: Actions::ALL,
        }),
        // Whoever begins an upload may give it up.
        Resource::Uploads(name) | Resource::Upload(name, _) => of(name, push),
        Resource::Blob(name, _)
        | Resource::Manifest(name, _)
        | Resource::Tags(name)
        | Resource::Referrers(name, _) => match *method {
            Method::GET | Method::HEAD => of(name, Actions::PULL),
            Method::DELETE => of(name, delete),
            _ => of(name, push),
        },
    }
}

/// Returns the bearer token of a request (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns the answer that says where tokens are to be had, and for what.
fn unauthorized(asked: &Asked<'_>, scopes: &[&Scope], reason: Reason) -> ApiError {
    let (message, error) = match reason {
        Reason::InvalidToken => (
            "the token that was sent is none of this registry, or has expired",
            Some("invalid_token"),
        ),
        Reason::InsufficientScope => (
            "the token that was sent does not allow of this",
            Some("insufficient_scope"),
        ),
        Reason::NoToken | Reason::ReadOnly => (
            "this needs a token: log in, or give this client its credentials",
            None,
        ),
    };
    let refused = ApiError::new(ErrorCode::Unauthorized, message);
    match challenge(asked, scopes, error) {
        Some(challenge) => refused.header(header::WWW_AUTHENTICATE, challenge),
        None => refused,
    }
}

/// Nothing where the client's name for us is none.
fn challenge(asked: &Asked<'_>, scopes: &[&Scope], error: Option<&str>) -> Option<HeaderValue> {
    let authority = match asked.uri.authority() {
        Some(authority) => authority.as_str(),
        None => asked.headers.get(header::HOST)?.to_str().ok()?,
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
    if !authority.bytes().all(is_plain) {
        return None;
    }
    let scheme = asked.scheme.as_str();
    let mut text =
        format!("Bearer realm=\"{scheme}://{authority}{TOKEN_PATH}\",service=\"{SERVICE}\"");
    if !scopes.is_empty() {
        let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        text.push_str(&format!(",scope=\"{}\"", scopes.join(" ")));
    }
    if let Some(error) = error {
        text.push_str(&format!(",error=\"{error}\""));
    }
    HeaderValue::try_from(text).ok()
}
