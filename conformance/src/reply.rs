//! An answer of the registry under test, and what a rule may want of it. Every check holds
//! answers against rules by these methods, so that every failure shows request, expectation
//! and answer in one form.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use url::Url;

use crate::check::{Failure, Stop, Verdict};

/// So much of a header or a body is quoted in a failure.
pub(crate) const EXCERPT: usize = 240;

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    /// What was asked, for failures.
    pub(crate) request: String,
    /// Where the answer came from, after redirects.
    pub(crate) url: Url,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// A failure of this exchange.
    pub(crate) fn fail(&self, expected: impl Into<String>) -> Stop {
        Stop::Fail(Box::new(Failure {
            request: self.request.clone(),
            expected: expected.into(),
            got: self.describe(),
            severe: self.status.is_server_error(),
        }))
    }

    /// Holds the status against what is allowed.
    pub(crate) fn status(&self, allowed: &[u16]) -> Verdict<&Self> {
        if allowed.contains(&self.status.as_u16()) {
            return Ok(self);
        }
        let allowed: Vec<String> = allowed.iter().map(u16::to_string).collect();
        Err(self.fail(format!("status {}", allowed.join(" or "))))
    }

    /// Skips the check where the registry says that it does not offer something.
    pub(crate) fn skip_unless(&self, allowed: &[u16], feature: &str) -> Verdict<&Self> {
        if matches!(self.status.as_u16(), 400 | 404 | 405 | 415 | 501)
            && !allowed.contains(&self.status.as_u16())
        {
            return Err(Stop::skip(format!(
                "{feature} is not offered ({} answered {})",
                self.request, self.status
            )));
        }
        self.status(allowed)
    }

    /// A header's value, empty where it is not text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    }

    /// A header's value, or a failure.
    pub(crate) fn required(&self, name: &str) -> Verdict<&str> {
        self.header(name)
            .ok_or_else(|| self.fail(format!("a `{name}` header")))
    }

    /// Holds a header against an exact value.
    pub(crate) fn header_is(&self, name: &str, value: &str) -> Verdict<&Self> {
        if self.header(name) == Some(value) {
            return Ok(self);
        }
        Err(self.fail(format!("header `{name}: {value}`")))
    }

    /// Holds that a header is not there.
    pub(crate) fn header_absent(&self, name: &str) -> Verdict<&Self> {
        match self.header(name) {
            None => Ok(self),
            Some(_) => Err(self.fail(format!("no `{name}` header"))),
        }
    }

    /// Holds the body against exact bytes.
    pub(crate) fn body_is(&self, bytes: &[u8]) -> Verdict<&Self> {
        if self.body == bytes {
            return Ok(self);
        }
        let differs = self
            .body
            .iter()
            .zip(bytes)
            .position(|(got, wanted)| got != wanted)
            .unwrap_or_else(|| self.body.len().min(bytes.len()));
        Err(self.fail(format!(
            "the {} bytes that were pushed (the answer has {}, and differs from byte {differs})",
            bytes.len(),
            self.body.len()
        )))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Verdict<serde_json::Value> {
        serde_json::from_slice(&self.body).map_err(|error| self.fail(format!("JSON ({error})")))
    }

    /// The `Location` header made absolute.
    pub(crate) fn location(&self) -> Verdict<String> {
        let location = self.required("location")?;
        match self.url.join(location) {
            Ok(url) => Ok(url.to_string()),
            Err(_) => Err(self.fail("a `Location` that is an address")),
        }
    }

    /// The target of `Link: <…>; rel="next"` made absolute, where there is such a link.
    pub(crate) fn next(&self) -> Verdict<Option<String>> {
        let Some(link) = self.header("link") else {
            return Ok(None);
        };
        match crate::link::next(link).map(|target| self.url.join(target)) {
            Some(Ok(url)) => Ok(Some(url.to_string())),
            _ => Err(self.fail("a `Link` header with the relation type `rel=\"next\"`")),
        }
    }

    /// The code of the first error in the body, where the body has the specified form.
    pub(crate) fn error_code(&self) -> Option<String> {
        let value: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        Some(value["errors"][0]["code"].as_str()?.to_owned())
    }

    /// Holds the code of the first error against those that fit.
    pub(crate) fn error_is(&self, codes: &[&str]) -> Verdict<&Self> {
        match self.error_code() {
            Some(code) if codes.contains(&code.as_str()) => Ok(self),
            _ => Err(self.fail(format!("the error code {}", codes.join(" or ")))),
        }
    }

    /// Status, the headers that rules speak of, and the beginning of the body.
    fn describe(&self) -> String {
        const TOLD: [&str; 14] = [
            "content-type",
            "content-length",
            "content-range",
            "range",
            "location",
            "docker-content-digest",
            "etag",
            "link",
            "oci-subject",
            "oci-tag",
            "oci-filters-applied",
            "oci-chunk-min-length",
            "preference-applied",
            "retry-after",
        ];
        let mut text = self.status.to_string();
        for name in TOLD {
            if let Some(value) = self.header(name) {
                text.push_str(&format!(" [{name}: {}]", excerpt(value, EXCERPT)));
            }
        }
        if !self.body.is_empty() {
            text.push(' ');
            text.push_str(&excerpt(&String::from_utf8_lossy(&self.body), EXCERPT));
        }
        text
    }
}

/// The beginning of `text` on one line.
pub(crate) fn excerpt(text: &str, limit: usize) -> String {
    let mut short: String = text
        .chars()
        .take(limit)
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    if text.chars().nth(limit).is_some() {
        short.push('…');
    }
    short
}
