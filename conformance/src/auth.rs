//! Answers the challenges of a registry that asks who is there: Basic, and Bearer tokens
//! from the realm that the challenge names. For the HTTP helper only.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, header};
use reqwest::Client;
use url::Url;

/// A name and its password; `Debug` shows neither.
#[derive(Clone)]
pub(crate) struct Credentials {
    username: String,
    password: String,
}

impl Credentials {
    /// Credentials for both schemes.
    pub(crate) fn new(username: String, password: String) -> Self {
        Self { username, password }
    }

    fn basic(&self) -> String {
        let pair = format!("{}:{}", self.username, self.password);
        format!("Basic {}", STANDARD.encode(pair))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(…)")
    }
}

/// Keeps what earlier challenges led to, so that most requests need no second try.
pub(crate) struct Authorizer {
    client: Client,
    credentials: Option<Credentials>,
    known: Mutex<HashMap<String, String>>,
}

impl Authorizer {
    /// Without credentials only anonymous tokens are fetched.
    pub(crate) fn new(client: Client, credentials: Option<Credentials>) -> Self {
        Self {
            client,
            credentials,
            known: Mutex::default(),
        }
    }

    /// The `Authorization` value that worked for such a request before.
    pub(crate) fn known(&self, method: &Method, url: &Url) -> Option<String> {
        self.lock().get(&key(method, url)).cloned()
    }

    /// The `Authorization` value that a 401 asks for, where there is one to give.
    pub(crate) async fn answer(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
    ) -> Option<String> {
        let mut value = None;
        for challenge in headers.get_all(header::WWW_AUTHENTICATE) {
            let challenge = challenge.to_str().ok()?;
            let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                value = self.token(&parse(parameters)).await;
            } else if scheme.eq_ignore_ascii_case("basic") {
                value = self.credentials.as_ref().map(Credentials::basic);
            }
            if value.is_some() {
                break;
            }
        }
        let value = value?;
        self.lock().insert(key(method, url), value.clone());
        Some(value)
    }

    async fn token(&self, challenge: &HashMap<String, String>) -> Option<String> {
        let mut url = Url::parse(challenge.get("realm")?).ok()?;
        for name in ["service", "scope"] {
            if let Some(value) = challenge.get(name) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let mut request = self.client.get(url);
        if let Some(credentials) = &self.credentials {
            request = request.header(header::AUTHORIZATION, credentials.basic());
        }
        let body: serde_json::Value = request.send().await.ok()?.json().await.ok()?;
        let token = body["token"].as_str().or(body["access_token"].as_str())?;
        Some(format!("Bearer {token}"))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests of one kind in one repository share an authorization.
fn key(method: &Method, url: &Url) -> String {
    let repository = ["/blobs/", "/manifests/", "/tags/", "/referrers/"]
        .into_iter()
        .find_map(|part| url.path().split_once(part))
        .map_or(url.path(), |(repository, _)| repository);
    let mount = url
        .query_pairs()
        .find(|(name, _)| name == "from")
        .map(|(_, from)| from.into_owned())
        .unwrap_or_default();
    format!("{method} {repository} {mount}")
}

/// Reads `name="value", …`; a value may be without quotes.
fn parse(parameters: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = parameters.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, following) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        found.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        rest = following.trim_start_matches([',', ' ']);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let found = parse(r#"realm="https://a/t?x=1",service=s,scope="repository:a/b:pull,push""#);
        assert_eq!(found["realm"], "https://a/t?x=1");
        assert_eq!(found["service"], "s");
        assert_eq!(found["scope"], "repository:a/b:pull,push");
    }

    #[test]
    fn requests_to_one_repository_share_a_key() {
        let url = |text| Url::parse(text).unwrap();
        let one = key(&Method::GET, &url("http://h/v2/a/b/manifests/x"));
        assert_eq!(
            one,
            key(&Method::GET, &url("http://h/v2/a/b/blobs/sha256:0"))
        );
        assert_ne!(one, key(&Method::PUT, &url("http://h/v2/a/b/manifests/x")));
        assert_ne!(one, key(&Method::GET, &url("http://h/v2/a/c/manifests/x")));
    }
}
