//! The parameters behind a path's question mark. Pure; called by handlers.

use percent_encoding::percent_decode_str;

/// The parameters of a request. Those that nobody asks for are passed over, as `ns` is.
///
/// A plus sign is one: media types hold them, and no value that we know holds a space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (decode(key), decode(value)))
                .collect(),
        )
    }

    /// Returns the fields of a form (`application/x-www-form-urlencoded`), in which a plus sign is a
    /// space: so do clients write scopes, in addresses too.
    pub(crate) fn form(text: Option<&str>) -> Self {
        Self::parse(text.map(|text| text.replace('+', "%20")).as_deref())
    }

    /// Returns the first value of the parameter.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        (self.0.iter())
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// Returns every value of the parameter.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        (self.0.iter())
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_found() {
        let query = Query::parse(Some("tag=a&tag=b%2Fc&artifactType=x/y+json&n&&=&bad=%ff"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b/c"]);
        assert_eq!(query.get("artifactType"), Some("x/y+json"));
        assert_eq!(query.get("n"), Some(""));
        assert_eq!(query.get("bad"), Some("\u{fffd}"));
        assert_eq!(query.get("ns"), None);
        assert_eq!(Query::parse(None).get("n"), None);
        let form = Query::form(Some("scope=a:b+c%20d%2Be"));
        assert_eq!(form.get("scope"), Some("a:b c d+e"));
    }
}
