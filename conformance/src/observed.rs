//! What every answer of a run has shown about the rules that hold for all of them:
//! the form of errors, warnings, and the advice of a registry that is busy.
//! Written by the HTTP helper, read by the checks that run last.

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use serde_json::Value;

use crate::reply::Reply;

/// The error codes that the specification lists.
pub(crate) const ERROR_CODES: [&str; 14] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
];

/// Codes of Docker's schema 1, which the specification tells clients to expect.
const LEGACY_CODES: [&str; 3] = [
    "TAG_INVALID",
    "MANIFEST_UNVERIFIED",
    "PAGINATION_NUMBER_INVALID",
];

/// No more than so many warning bytes may come with one answer.
const WARNING_LIMIT: usize = 4096;

/// The rules that hold for every answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A 4xx body in JSON has the specified form.
    Envelope,
    /// `code` has only uppercase letters and underscores and is one of the list.
    Code,
    /// `Warning: 299 - "…"` without a date, at most 4096 bytes.
    Warning,
    /// 429 comes with `Retry-After`.
    RetryAfter,
    /// No 5xx was answered to any request of the run.
    NoServerError,
    /// A 4xx has a JSON body.
    JsonErrors,
    /// 401 is `UNAUTHORIZED` and has a challenge, 403 is `DENIED`, 429 `TOOMANYREQUESTS`.
    Access,
}

/// One answer that broke a rule.
#[derive(Clone, Debug)]
pub(crate) struct Breach {
    pub(crate) rule: Rule,
    pub(crate) request: String,
    pub(crate) got: String,
}

/// Breaches and counts of a run.
#[derive(Default)]
pub(crate) struct Observed {
    breaches: Mutex<Vec<Breach>>,
}

impl Observed {
    /// Looks at one answer.
    pub(crate) fn note(&self, method: &Method, reply: &Reply) {
        let found = breaches(method, reply);
        if !found.is_empty() {
            self.lock().extend(found);
        }
    }

    /// The answers that broke `rule`, in the order in which they came.
    pub(crate) fn breaches(&self, rule: Rule) -> Vec<Breach> {
        let all = self.lock();
        all.iter()
            .filter(|breach| breach.rule == rule)
            .cloned()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Breach>> {
        self.breaches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn breaches(method: &Method, reply: &Reply) -> Vec<Breach> {
    let mut found = Vec::new();
    let mut push = |rule, got: String| {
        found.push(Breach {
            rule,
            request: reply.request.clone(),
            got,
        });
    };
    if reply.status.is_server_error() {
        push(Rule::NoServerError, reply.status.to_string());
    }
    if reply.status == StatusCode::TOO_MANY_REQUESTS && reply.header("retry-after").is_none() {
        push(Rule::RetryAfter, "429 without `Retry-After`".into());
    }
    if let Some(code) = access_code(reply.status)
        && *method != Method::HEAD
        && reply.error_code().as_deref() != Some(code)
    {
        push(
            Rule::Access,
            format!("{} without the code {code}", reply.status),
        );
    }
    if reply.status == StatusCode::UNAUTHORIZED && reply.header("www-authenticate").is_none() {
        push(Rule::Access, "401 without `WWW-Authenticate`".into());
    }
    let mut size = 0;
    for value in reply.headers.get_all("warning") {
        size += value.len();
        let text = value.to_str().unwrap_or_default();
        if !is_warning(text) {
            push(Rule::Warning, format!("Warning: {text}"));
        }
    }
    if size > WARNING_LIMIT {
        push(Rule::Warning, format!("{size} bytes of warnings"));
    }
    if reply.status.is_client_error() && *method != Method::HEAD {
        match serde_json::from_slice::<Value>(&reply.body) {
            Ok(value) => {
                if let Err(reason) = envelope(&value) {
                    push(Rule::Envelope, format!("{reason}: {value}"));
                } else if let Some(code) = unknown_code(&value) {
                    push(Rule::Code, format!("code {code}"));
                }
            }
            Err(_) if is_json(reply) && !reply.body.is_empty() => {
                push(
                    Rule::Envelope,
                    "a body that is called JSON and is not".into(),
                );
            }
            Err(_) => push(
                Rule::JsonErrors,
                format!("{} without a JSON body", reply.status),
            ),
        }
    }
    found
}

/// The code that a status of access control must come with.
fn access_code(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::UNAUTHORIZED => Some("UNAUTHORIZED"),
        StatusCode::FORBIDDEN => Some("DENIED"),
        StatusCode::TOO_MANY_REQUESTS => Some("TOOMANYREQUESTS"),
        _ => None,
    }
}

fn is_json(reply: &Reply) -> bool {
    reply
        .header("content-type")
        .is_some_and(|value| value.starts_with("application/json"))
}

/// Holds a body against the form of "Error Codes".
pub(crate) fn envelope(value: &Value) -> Result<(), String> {
    let errors = value["errors"].as_array().ok_or("`errors` is no list")?;
    for error in errors {
        let code = error["code"].as_str().ok_or("`code` is no text")?;
        if code.is_empty()
            || !code
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_uppercase())
        {
            return Err(format!("code `{code}` is not of A-Z and _"));
        }
        if !matches!(error.get("message"), None | Some(Value::String(_))) {
            return Err("`message` is no text".into());
        }
    }
    Ok(())
}

fn unknown_code(value: &Value) -> Option<&str> {
    value["errors"]
        .as_array()?
        .iter()
        .filter_map(|error| error["code"].as_str())
        .find(|code| !ERROR_CODES.contains(code) && !LEGACY_CODES.contains(code))
}

/// True for `299 - "text"` with nothing behind it.
fn is_warning(value: &str) -> bool {
    value
        .strip_prefix("299 - \"")
        .and_then(|rest| rest.strip_suffix('"'))
        .is_some_and(|text| !text.replace("\\\\", "").replace("\\\"", "").contains('"'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn warnings_have_one_form() {
        for (value, good) in [
            ("299 - \"soon gone\"", true),
            ("299 - \"a \\\"word\\\"\"", true),
            ("299 - \"soon\" \"Wed, 21 Oct 2015 07:28:00 GMT\"", false),
            ("199 - \"soon\"", false),
            ("299 host \"soon\"", false),
            ("299 - soon", false),
        ] {
            assert_eq!(is_warning(value), good, "{value}");
        }
    }

    #[test]
    fn envelopes_have_one_form() {
        let good = json!({"errors": [{"code": "NAME_UNKNOWN", "message": "", "detail": {"a": 1}}]});
        assert!(envelope(&good).is_ok());
        assert!(envelope(&json!({"errors": [{"code": "UNSUPPORTED"}]})).is_ok());
        for bad in [
            json!({"error": "x"}),
            json!({"errors": {"code": "X"}}),
            json!({"errors": [{"message": "x"}]}),
            json!({"errors": [{"code": "lower"}]}),
            json!({"errors": [{"code": "X", "message": 5}]}),
        ] {
            assert!(envelope(&bad).is_err(), "{bad}");
        }
        assert_eq!(
            unknown_code(&json!({"errors": [{"code": "ODD"}]})),
            Some("ODD")
        );
        assert_eq!(unknown_code(&good), None);
    }
}
