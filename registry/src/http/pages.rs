//! Pages of listings: `n`, `last` and the `Link` to the next one. Called by the handlers that
//! list.

use deploy_spec::{ErrorCode, listing::next_link};
use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{
    error::{ApiError, Result},
    query::Query,
};

/// A page holds no more than this, however much is asked for.
pub(crate) const PAGE_MAX: usize = 10_000;

/// What must not stand as it is in the value of a query parameter or between `<` and `>`.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'<')
    .add(b'=')
    .add(b'>');

/// Returns how many items the client wants.
///
/// # Errors
/// 400 where `n` is no number.
pub(crate) fn limit(query: &Query, code: ErrorCode) -> Result<usize> {
    let Some(text) = query.get("n") else {
        return Ok(PAGE_MAX);
    };
    let number = text.parse::<u64>().map_err(|_| {
        let message = format!(
            "parameter `n` must be a number, not `{}`",
            text.escape_debug()
        );
        ApiError::with_status(http::StatusCode::BAD_REQUEST, code, message)
    })?;
    Ok(usize::try_from(number).unwrap_or(PAGE_MAX).min(PAGE_MAX))
}

/// Returns the `Link` header for the page behind `last`, with `n` as asked for.
pub(crate) fn link(path: &str, query: &Query, last: &str, keep: &[&str]) -> HeaderValue {
    let mut target = path.to_owned();
    let mut separator = '?';
    let mut add = |key: &str, value: &str| {
        let value = utf8_percent_encode(value, ESCAPED);
        target.push_str(&format!("{separator}{key}={value}"));
        separator = '&';
    };
    for key in keep {
        if let Some(value) = query.get(key) {
            add(key, value);
        }
    }
    add("last", last);
    HeaderValue::try_from(next_link(&target)).expect("escaped values are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_carry_parameters_escaped() {
        let query = Query::parse(Some("n=2&artifactType=a/b%2Bc%22%3E&ns=x"));
        let link = link("/v2/a/tags/list", &query, "v1", &["n", "artifactType"]);
        let expected = "</v2/a/tags/list?n=2&artifactType=a/b%2Bc%22%3E&last=v1>; rel=\"next\"";
        assert_eq!(link, expected);
    }

    #[test]
    fn limits_are_numbers_and_bounded() {
        let limit = |query| limit(&Query::parse(Some(query)), ErrorCode::NameInvalid).ok();
        assert_eq!(limit(""), Some(PAGE_MAX));
        assert_eq!(limit("n=0"), Some(0));
        assert_eq!(limit("n=7"), Some(7));
        assert_eq!(limit("n=18446744073709551615"), Some(PAGE_MAX));
        for bad in ["n=", "n=-1", "n=x", "n=1.5"] {
            assert_eq!(limit(bad), None, "{bad}");
        }
    }
}
