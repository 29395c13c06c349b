//! Headers that more than one resource answers with.

use deploy_spec::Digest;
use http::{HeaderName, HeaderValue};

/// The header that names the digest of what is sent.
pub(crate) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Returns the digest as a header's value.
pub(crate) fn digest_value(digest: &Digest) -> HeaderValue {
    HeaderValue::try_from(digest.to_string()).expect("digests are visible ASCII")
}
