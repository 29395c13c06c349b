//! What can go wrong between a client and a registry. Returned by everything in `client`.

use std::{io, path::PathBuf, time::Duration};

use deploy_spec::{Digest, Envelope, ErrorCode};

use super::AddressError;
use crate::ssh::SshError;

/// Why an operation on a registry failed.
///
/// Whatever is a plain answer (no such manifest, no such blob, a condition that does not hold)
/// is in the operation's return type and not here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address contradicts the options.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Setup(String),
    /// No connection: nobody listens, the name is unknown, TLS fails.
    #[error("cannot reach registry `{registry}`: {reason}")]
    Unreachable {
        /// Its address.
        registry: String,
        /// The innermost cause.
        reason: String,
    },
    /// Somebody answers who is no registry.
    #[error(
        "`{registry}` does not answer as an OCI registry: {found}\nhint: check the address and the port"
    )]
    NotARegistry {
        /// Its address.
        registry: String,
        /// What it answered.
        found: String,
    },
    /// The connection broke, more often than is tried again.
    #[error("cannot {operation}: the connection to `{registry}` broke: {reason}")]
    Interrupted {
        /// What was tried.
        operation: String,
        /// The registry's address.
        registry: String,
        /// The innermost cause.
        reason: String,
    },
    /// Nothing moved for too long.
    #[error("cannot {operation}: `{registry}` sent and took nothing for {seconds} seconds")]
    Stalled {
        /// What was tried.
        operation: String,
        /// The registry's address.
        registry: String,
        /// The limit.
        seconds: u64,
    },
    /// The registry wants to know who is asking, and the credentials do not satisfy it.
    #[error(
        "cannot {operation}: `{registry}` {}{}{}",
        answer_to(*anonymous),
        reason_suffix(reason),
        login_hint(*anonymous)
    )]
    Unauthorized {
        /// What was tried.
        operation: String,
        /// The registry's address.
        registry: String,
        /// What the registry or its token service said.
        reason: String,
        /// Whether the client had nothing to prove itself with.
        anonymous: bool,
    },
    /// The SSH key that was to prove who is asking does not sign.
    #[error("cannot {operation}")]
    Key {
        /// What was tried.
        operation: String,
        /// Why it does not.
        source: SshError,
    },
    /// A secret would go where everybody can read it.
    #[error(
        "cannot {operation}: `{registry}` asks for authentication, and no secret is sent over plain HTTP\n\
         hint: give the fingerprint that it logged with -fp, or write `http://` in front of the address if nobody listens in"
    )]
    InTheClear {
        /// What was tried.
        operation: String,
        /// The registry's address.
        registry: String,
    },
    /// The registry does not offer this operation.
    #[error(
        "cannot {operation}: the registry does not support it{}",
        reason_suffix(reason)
    )]
    Unsupported {
        /// What was tried.
        operation: String,
        /// What the registry said.
        reason: String,
    },
    /// The content to read is not there.
    #[error("cannot {operation}: it is not there")]
    NotFound {
        /// What was tried.
        operation: String,
    },
    /// Any other refusal.
    #[error(
        "cannot {operation}: the registry answered {status}{}{}",
        reason_suffix(&envelope.to_string()),
        wait_suffix(*retry_after)
    )]
    Refused {
        /// What was tried.
        operation: String,
        /// The HTTP status.
        status: http::StatusCode,
        /// What the registry said, empty where it said nothing readable.
        envelope: Envelope,
        /// How long the registry wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// An answer that breaks the specification.
    #[error("cannot {operation}: the registry's answer is not usable: {reason}")]
    Protocol {
        /// What was tried.
        operation: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// Content that is not what its digest says.
    #[error("cannot {operation}: the content has digest `{found}`, not `{expected}`")]
    Digest {
        /// What was tried.
        operation: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Content of another size than announced.
    #[error("cannot {operation}: the content has {found} bytes, not {expected}")]
    Size {
        /// What was tried.
        operation: String,
        /// What was announced.
        expected: u64,
        /// What came, at least.
        found: u64,
    },
    /// Content that somebody refused who saw it pass.
    #[error("the content was refused")]
    Content {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More bytes than are read into memory.
    #[error("cannot {operation}: it has more than {limit} bytes")]
    TooLarge {
        /// What was tried.
        operation: String,
        /// The limit.
        limit: u64,
    },
    /// A local file that is read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ClientError {
    /// Returns the OCI error code of a refusal, where it carries one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { envelope, .. } => envelope.code(),
            _ => None,
        }
    }

    /// Returns how long the registry wants to be left alone, where it says so (`Retry-After`).
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// True where the same request may succeed later: the registry is down, overloaded or out
    /// of reach, and nothing is wrong with the request itself.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } | Self::Stalled { .. } => true,
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || *status == http::StatusCode::TOO_MANY_REQUESTS
                    || *status == http::StatusCode::REQUEST_TIMEOUT
            }
            _ => false,
        }
    }
}

fn reason_suffix(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(" ({reason})"),
    }
}

/// Who has proved himself is not asked to do so: he may not do what he wants to.
fn answer_to(anonymous: bool) -> &'static str {
    match anonymous {
        true => "asks for authentication",
        false => "does not allow it",
    }
}

fn login_hint(anonymous: bool) -> &'static str {
    match anonymous {
        true => "\nhint: name an SSH key with -key, or log in with `deployctl login`",
        false => "",
    }
}

fn wait_suffix(told: Option<Duration>) -> String {
    match told {
        Some(told) if !told.is_zero() => {
            format!(", asking to be left alone for {} seconds", told.as_secs())
        }
        _ => String::new(),
    }
}

/// Returns the innermost cause of an error as text: the outer ones of an HTTP client say no
/// more than that a request failed.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // An I/O error gives out the source of what it wraps, and so hides that one.
    while let Some(wrapped) = cause.downcast_ref().and_then(io::Error::get_ref) {
        cause = wrapped;
    }
    if let Some(rustls::Error::General(reason)) = cause.downcast_ref() {
        // Our own words.
        return reason.clone();
    }
    match cause.downcast_ref::<io::Error>() {
        // Without the number that the system's text carries behind it.
        Some(error) => match error.raw_os_error() {
            Some(_) => error.kind().to_string(),
            None => error.to_string(),
        },
        None => cause.to_string(),
    }
}
