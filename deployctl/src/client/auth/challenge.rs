//! What a registry asks for with a 401: `WWW-Authenticate` (RFC 9110 §11.6.1), and the parameters
//! of its token service.

use deploy_spec::{Scope, login::Statement};
use http::{HeaderMap, header::WWW_AUTHENTICATE};
use jiff::Timestamp;
use url::Url;

use crate::ssh::{Signer, SshError};

/// What is asked for; the stronger one where there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer(Bearer),
}

/// Where tokens are to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
    /// Those that were understood.
    pub(super) scopes: Vec<Scope>,
}

/// A statement with its signature, as it is sent.
pub(super) struct Signed {
    pub(super) registry: String,
    pub(super) time: Timestamp,
    pub(super) nonce: String,
    pub(super) signature: String,
}

impl Challenge {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut basic = None;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let Ok(text) = value.to_str() else { continue };
            for (scheme, parameters) in challenges(text) {
                if scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
                if scheme.eq_ignore_ascii_case("bearer")
                    && let Some(bearer) = Bearer::of(&parameters)
                {
                    return Some(Self::Bearer(bearer));
                }
            }
        }
        basic
    }
}

impl Bearer {
    fn of(parameters: &[(String, String)]) -> Option<Self> {
        let value = |name: &str| {
            let found = parameters
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        let realm = Url::parse(value("realm")?).ok()?;
        let scopes = value("scope").unwrap_or_default().split_whitespace();
        Some(Self {
            realm,
            service: value("service").map(str::to_owned),
            scopes: scopes.filter_map(|scope| scope.parse().ok()).collect(),
        })
    }

    /// Signs for a token of these scopes.
    pub(super) async fn sign(
        &self,
        key: &Signer,
        registry: &str,
        scope: &str,
        nonce: &str,
    ) -> Result<Signed, SshError> {
        let time = Timestamp::now();
        let statement = Statement {
            service: self.service.as_deref().unwrap_or_default(),
            registry,
            scope,
            time,
            nonce,
        };
        let text = statement.text().ok_or_else(|| SshError::Refused {
            key: key.fingerprint(),
            reason: "the registry asks to sign what could be read in two ways".to_owned(),
        })?;
        let signature = key
            .sign(deploy_spec::login::NAMESPACE, text.as_bytes())
            .await?;
        Ok(Signed {
            registry: registry.to_owned(),
            time,
            nonce: nonce.to_owned(),
            signature,
        })
    }
}

/// Splits a header into schemes with their parameters. A word with nothing but white space and
/// another word behind it is a scheme; commas separate everything.
fn challenges(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find(['=', ' ', '\t', ',']).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let behind = behind.trim_start_matches([' ', '\t']);
        match (behind.strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, behind) = parameter(value.trim_start_matches([' ', '\t']));
                parameters.push((word.to_owned(), value));
                rest = behind;
            }
            // A parameter of nothing.
            (Some(_), None) => return found,
            (None, _) => {
                found.push((word.to_owned(), Vec::new()));
                rest = behind;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found
}

/// Returns a value, a word or one between quotation marks, and what stands behind it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, character)| character)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scopes: &[&str]) -> Option<Challenge> {
        Some(Challenge::Bearer(Bearer {
            realm: realm.parse().unwrap(),
            service: service.map(str::to_owned),
            scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
        }))
    }

    #[test]
    fn the_challenge_names_the_scheme_and_its_parameters() {
        let realm = "https://a.example/token";
        assert_eq!(asked(&["basic realm=x"]), Some(Challenge::Basic));
        assert_eq!(
            asked(&[
                "Basic realm=\"x, y=z\"",
                "Bearer realm=\"https://a.example/token\""
            ]),
            bearer(realm, None, &[])
        );
        // Several in one line, with white space where it may be.
        assert_eq!(
            asked(&[
                "Basic realm=x, Bearer realm = \"https://a.example/token\" , service=\"a\\\"b\",scope=\"repository:x:pull,push nonsense\",error=\"x\""
            ]),
            bearer(realm, Some("a\"b"), &["repository:x:pull,push"])
        );
        for nothing in [
            "Digest x",
            "Bearer",
            "Bearer realm=nowhere",
            "=",
            "realm=x",
            "",
        ] {
            assert_eq!(asked(&[nothing]), None, "{nothing}");
        }
        assert_eq!(asked(&[]), None);
        assert_eq!(
            asked(&["Bearer realm=\"https://a.example/token"]),
            bearer(realm, None, &[])
        );
    }
}
