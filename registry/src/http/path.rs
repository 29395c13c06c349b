//! What a path means. Pure; called by `router` alone.

use deploy_spec::{Digest, NameError, Reference, RepositoryName};
use percent_encoding::percent_decode_str;

use crate::{metrics::Route, store::UploadId};

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// `/v2/`
    Api,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/_oci/ext/discover`, `/v2/<name>/_oci/ext/discover`
    Extensions,
    /// `/v2/_deploytools/audit`
    Audit,
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>`; nothing where the id cannot be one of ours
    Upload(RepositoryName, Option<UploadId>),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
}

/// Why a path means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathError {
    /// No endpoint looks like this.
    NoEndpoint,
    /// The repository's name is outside the grammar.
    Name(NameError),
    /// The digest is outside the grammar, or of an algorithm that nobody computes here.
    Digest(String),
    /// The tag is outside the grammar.
    Tag(NameError),
}

impl Resource {
    /// Returns what the path of a request means, escapes and all.
    pub(crate) fn parse(path: &str) -> Result<Self, PathError> {
        let decoded = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| PathError::NoEndpoint)?;
        let rest = decoded.strip_prefix("/v2").ok_or(PathError::NoEndpoint)?;
        let rest = match rest {
            "" => "",
            rest => rest.strip_prefix('/').ok_or(PathError::NoEndpoint)?,
        };
        // From the end: a repository's name may hold any of these words.
        let parts: Vec<&str> = rest.split('/').collect();
        match parts.as_slice() {
            [""] => Ok(Self::Api),
            ["_catalog"] => Ok(Self::Catalog),
            ["_oci", "ext", "discover"] => Ok(Self::Extensions),
            ["_deploytools", "audit"] => Ok(Self::Audit),
            [name @ .., "_oci", "ext", "discover"] => repository(name).map(|_| Self::Extensions),
            [name @ .., "blobs", "uploads", ""] | [name @ .., "blobs", "uploads"] => {
                repository(name).map(Self::Uploads)
            }
            [name @ .., "blobs", "uploads", id] => {
                Ok(Self::Upload(repository(name)?, id.parse().ok()))
            }
            [name @ .., "blobs", digest] => {
                Ok(Self::Blob(repository(name)?, parse_digest(digest)?))
            }
            [name @ .., "manifests", text] => {
                Ok(Self::Manifest(repository(name)?, reference(text)?))
            }
            [name @ .., "tags", "list"] => repository(name).map(Self::Tags),
            [name @ .., "referrers", digest] => {
                Ok(Self::Referrers(repository(name)?, parse_digest(digest)?))
            }
            _ => Err(PathError::NoEndpoint),
        }
    }

    /// Returns the repository that it is in.
    pub(crate) fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Manifest(name, _)
            | Self::Tags(name)
            | Self::Referrers(name, _) => Some(name),
            Self::Api | Self::Catalog | Self::Extensions | Self::Audit => None,
        }
    }

    /// Returns the tag or digest that it is named by.
    pub(crate) fn reference(&self) -> Option<String> {
        match self {
            Self::Manifest(_, reference) => Some(reference.to_string()),
            Self::Blob(_, digest) | Self::Referrers(_, digest) => Some(digest.to_string()),
            _ => None,
        }
    }

    /// Returns the endpoint's name, for logs and metrics: few, whatever clients ask for.
    pub(crate) fn route(&self) -> Route {
        match self {
            Self::Api => Route::Api,
            Self::Catalog => Route::Catalog,
            Self::Extensions => Route::Extensions,
            Self::Audit => Route::Audit,
            Self::Blob(..) => Route::Blob,
            Self::Uploads(..) => Route::Uploads,
            Self::Upload(..) => Route::Upload,
            Self::Manifest(..) => Route::Manifest,
            Self::Tags(..) => Route::Tags,
            Self::Referrers(..) => Route::Referrers,
        }
    }
}

fn repository(parts: &[&str]) -> Result<RepositoryName, PathError> {
    parts.join("/").parse().map_err(PathError::Name)
}

fn parse_digest(text: &str) -> Result<Digest, PathError> {
    text.parse()
        .map_err(|error: deploy_spec::digest::DigestError| PathError::Digest(error.to_string()))
}

fn reference(text: &str) -> Result<Reference, PathError> {
    match text.contains(':') {
        true => parse_digest(text).map(Reference::Digest),
        false => text.parse().map(Reference::Tag).map_err(PathError::Tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn paths_mean_what_the_specification_says() {
        let digest: Digest = DIGEST.parse().unwrap();
        let table = [
            ("/v2".to_owned(), Resource::Api),
            ("/v2/".to_owned(), Resource::Api),
            ("/v2/_catalog".to_owned(), Resource::Catalog),
            ("/v2/_oci/ext/discover".to_owned(), Resource::Extensions),
            ("/v2/_deploytools/audit".to_owned(), Resource::Audit),
            ("/v2/a/b/_oci/ext/discover".to_owned(), Resource::Extensions),
            (
                format!("/v2/a/blobs/{DIGEST}"),
                Resource::Blob(name("a"), digest.clone()),
            ),
            (
                format!("/v2/a/blobs/{}", DIGEST.replace(':', "%3A")),
                Resource::Blob(name("a"), digest.clone()),
            ),
            (
                "/v2/a/b/blobs/uploads/".to_owned(),
                Resource::Uploads(name("a/b")),
            ),
            (
                "/v2/a/b/blobs/uploads".to_owned(),
                Resource::Uploads(name("a/b")),
            ),
            (
                format!("/v2/a/blobs/uploads/{ID}"),
                Resource::Upload(name("a"), Some(ID.parse().unwrap())),
            ),
            (
                "/v2/a/blobs/uploads/x".to_owned(),
                Resource::Upload(name("a"), None),
            ),
            (
                "/v2/a/manifests/v1.0".to_owned(),
                Resource::Manifest(name("a"), Reference::Tag("v1.0".parse().unwrap())),
            ),
            (
                format!("/v2/manifests/blobs/manifests/{DIGEST}"),
                Resource::Manifest(name("manifests/blobs"), Reference::Digest(digest.clone())),
            ),
            (
                "/v2/tags/list/tags/list".to_owned(),
                Resource::Tags(name("tags/list")),
            ),
            (
                format!("/v2/a/referrers/{DIGEST}"),
                Resource::Referrers(name("a"), digest),
            ),
        ];
        for (path, expected) in table {
            assert_eq!(Resource::parse(&path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn bad_paths_say_what_is_wrong() {
        let is = |path: &str, check: fn(&PathError) -> bool| {
            let error = Resource::parse(path).unwrap_err();
            assert!(check(&error), "{path}: {error:?}");
        };
        for path in [
            "/",
            "/v1/",
            "/v2x",
            "/v2/a",
            "/v2/a/b/c",
            "/v2/%ff/tags/list",
        ] {
            is(path, |error| *error == PathError::NoEndpoint);
        }
        for path in [
            "/v2/A/tags/list",
            "/v2/tags/list",
            "/v2/a//b/tags/list",
            "/v2/../tags/list",
            "/v2/_x/tags/list",
        ] {
            is(path, |error| matches!(error, PathError::Name(_)));
        }
        for path in [
            "/v2/a/blobs/x",
            "/v2/a/blobs/",
            "/v2/a/blobs/md5:0",
            "/v2/a/referrers/sha256:x",
            "/v2/a/manifests/sha256:x",
        ] {
            is(path, |error| matches!(error, PathError::Digest(_)));
        }
        for path in [
            "/v2/a/manifests/-x",
            "/v2/a/manifests/",
            "/v2/a/manifests/a%20b",
        ] {
            is(path, |error| matches!(error, PathError::Tag(_)));
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(path: String) {
            let _ = Resource::parse(&path);
            let _ = Resource::parse(&format!("/v2/{path}"));
        }
    }
}
