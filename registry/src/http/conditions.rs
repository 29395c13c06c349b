//! Conditional requests (RFC 9110 §13) and the preference to wait (RFC 7240). Pure; called by
//! handlers. The entity tag of a manifest or blob is its digest.

use std::time::Duration;

use deploy_spec::Digest;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::store::Condition;

/// Longest time that an answer is held back, whatever the client would like: proxies in
/// between lose patience.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(300);

/// Returns the entity tag of content with this digest.
pub(crate) fn entity_tag(digest: &Digest) -> HeaderValue {
    HeaderValue::try_from(format!("\"{digest}\"")).expect("digests are visible ASCII")
}

/// What `If-Match` or `If-None-Match` lists.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    /// Those that can be entity tags of ours.
    Listed(Vec<Digest>),
}

impl Tags {
    fn parse(headers: &HeaderMap, name: HeaderName) -> Option<Self> {
        let mut values = headers.get_all(name).iter().peekable();
        values.peek()?;
        let mut digests = Vec::new();
        for value in values {
            for tag in value.to_str().unwrap_or_default().split(',') {
                let tag = tag.trim();
                if tag == "*" {
                    return Some(Self::Any);
                }
                let tag = tag.strip_prefix("W/").unwrap_or(tag);
                digests.extend(tag.trim_matches('"').parse::<Digest>().ok());
            }
        }
        Some(Self::Listed(digests))
    }
}

/// Returns what the headers of a `PUT` ask for. `If-Match` goes first where both are there.
pub(crate) fn of_write(headers: &HeaderMap) -> Condition {
    match Tags::parse(headers, header::IF_MATCH) {
        Some(Tags::Any) => return Condition::Present,
        Some(Tags::Listed(digests)) => return Condition::OneOf(digests),
        None => {}
    }
    match Tags::parse(headers, header::IF_NONE_MATCH) {
        Some(Tags::Any) => Condition::Absent,
        Some(Tags::Listed(digests)) => Condition::NoneOf(digests),
        None => Condition::None,
    }
}

/// Returns whether the client of a `GET` has the content with this digest already.
pub(crate) fn is_known(headers: &HeaderMap, digest: &Digest) -> bool {
    match Tags::parse(headers, header::IF_NONE_MATCH) {
        Some(Tags::Any) => true,
        Some(Tags::Listed(digests)) => digests.contains(digest),
        None => false,
    }
}

/// Returns how many seconds the client would like to wait for news, as far as we go along.
pub(crate) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").iter();
    preferences
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .filter_map(|preference| preference.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn conditions_of_writes() {
        let one = Digest::sha256(b"1");
        let two = Digest::sha256(b"2");
        let table = [
            (headers(&[]), Condition::None),
            (headers(&[("if-match", "*")]), Condition::Present),
            (headers(&[("if-none-match", "*")]), Condition::Absent),
            (
                headers(&[("if-match", &format!("\"{one}\""))]),
                Condition::OneOf(vec![one.clone()]),
            ),
            (
                headers(&[("if-match", &format!("\"{one}\", W/\"{two}\""))]),
                Condition::OneOf(vec![one.clone(), two]),
            ),
            (
                headers(&[("if-match", "\"else\"")]),
                Condition::OneOf(vec![]),
            ),
            (
                headers(&[("if-none-match", &one.to_string())]),
                Condition::NoneOf(vec![one]),
            ),
            (
                headers(&[("if-none-match", "*"), ("if-match", "*")]),
                Condition::Present,
            ),
        ];
        for (headers, expected) in table {
            assert_eq!(of_write(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn conditions_and_preferences_of_reads() {
        let digest = Digest::sha256(b"1");
        assert!(is_known(
            &headers(&[("if-none-match", &format!("W/\"{digest}\""))]),
            &digest
        ));
        assert!(is_known(&headers(&[("if-none-match", "*")]), &digest));
        assert!(!is_known(&headers(&[("if-none-match", "\"x\"")]), &digest));
        assert!(!is_known(&headers(&[]), &digest));
        let seconds = |value: &str| wait(&headers(&[("prefer", value)])).map(|wait| wait.as_secs());
        assert_eq!(seconds("wait=30"), Some(30));
        assert_eq!(seconds("respond-async, Wait = \"5\""), Some(5));
        assert_eq!(seconds("wait=99999"), Some(300));
        for value in ["", "wait", "wait=", "wait=-1", "waits=3"] {
            assert_eq!(seconds(value), None, "{value}");
        }
    }
}
