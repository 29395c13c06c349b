//! Wire types of the listing endpoints, and the `Link` header that chains their pages
//! (distribution-spec, "Listing tags", "Listing referrers"; RFC 8288).

use serde::{Deserialize, Serialize};

use crate::{manifest::Descriptor, media_type};

/// The body of `GET /v2/<name>/tags/list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagList {
    /// The repository.
    pub name: String,
    /// Its tags, sorted bytewise. Some registries send `null` for none.
    #[serde(default, deserialize_with = "list_or_null")]
    pub tags: Vec<String>,
}

/// The body of `GET /v2/_catalog`, which distribution made usual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// Repository names, sorted bytewise.
    #[serde(default, deserialize_with = "list_or_null")]
    pub repositories: Vec<String>,
}

/// The body of `GET /v2/<name>/referrers/<digest>`: an image index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrers {
    /// Always 2.
    pub schema_version: u32,
    /// Always that of an image index.
    pub media_type: String,
    /// The manifests whose subject is the digest asked for.
    #[serde(default, deserialize_with = "list_or_null")]
    pub manifests: Vec<Descriptor>,
}

impl Referrers {
    /// Returns the index of these manifests.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::IMAGE_INDEX.to_owned(),
            manifests,
        }
    }
}

/// The body of `GET /v2/_oci/ext/discover` (distribution-spec, extensions).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extensions {
    /// The extensions of the registry.
    #[serde(default, deserialize_with = "list_or_null")]
    pub extensions: Vec<Extension>,
}

/// One entry of [`Extensions`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name, which begins with an underscore.
    pub name: String,
    /// Where it is described.
    #[serde(default)]
    pub url: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Its endpoints, as paths.
    #[serde(default)]
    pub endpoints: Vec<String>,
}

fn list_or_null<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Returns the value of a `Link` header that names the next page.
pub fn next_link(target: &str) -> String {
    format!("<{target}>; rel=\"next\"")
}

/// Returns the target of the `next` relation in a `Link` header; it may be relative to the
/// URL that was asked. Other relations and parameters are passed over.
pub fn parse_next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>')?;
        let target = &rest[start + 1..end];
        let after = &rest[end + 1..];
        // The parameters of this link end where the next one begins.
        let parameters = after.split(",").next().unwrap_or_default();
        if parameters.split(';').any(is_next) {
            return Some(target);
        }
        rest = after;
    }
    None
}

fn is_next(parameter: &str) -> bool {
    parameter
        .trim()
        .split_once('=')
        .is_some_and(|(key, value)| {
            key.trim().eq_ignore_ascii_case("rel")
                && value
                    .trim()
                    .trim_matches('"')
                    .split(' ')
                    .any(|relation| relation.eq_ignore_ascii_case("next"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn next_links_are_found_among_others() {
        let table = [
            (
                r#"</v2/a/tags/list?n=1&last=b>; rel="next""#,
                Some("/v2/a/tags/list?n=1&last=b"),
            ),
            ("<x>; rel=next", Some("x")),
            (
                r#"<p>; rel="prev", <n>; title="a"; rel="last next""#,
                Some("n"),
            ),
            (r#"<p>; rel="prev""#, None),
            ("<unfinished", None),
            ("", None),
        ];
        for (header, expected) in table {
            assert_eq!(parse_next_link(header), expected, "{header}");
        }
    }

    #[test]
    fn null_lists_are_empty_ones() {
        let list: TagList = serde_json::from_str(r#"{"name":"a","tags":null}"#).unwrap();
        assert!(list.tags.is_empty());
        let catalog: Catalog = serde_json::from_str("{}").unwrap();
        assert!(catalog.repositories.is_empty());
    }

    proptest! {
        #[test]
        fn link_parse_is_the_inverse_of_next_link(target in "[!-;=?-~]{0,40}") {
            let header = next_link(&target);
            prop_assert_eq!(parse_next_link(&header), Some(target.as_str()));
        }

        #[test]
        fn parsing_anything_never_panics(header: String) {
            let _ = parse_next_link(&header);
        }
    }
}
