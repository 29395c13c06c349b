//! Who the client is: nobody, or a user with a password out of a Docker auth file.
//! Given to [`super::Options`] by the programs.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::Address;

/// A text that no log and no message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns the secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, to be sent and not kept.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<redacted>")
    }
}

/// What a client proves itself with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    #[default]
    Anonymous,
    /// A user name and a password, for Basic and for token services.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
}

/// An auth file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Not JSON, or a property of the wrong type. The content is not shown: it is secret.
    #[error("the auth file is not valid JSON of the expected form (line {line}, column {column})")]
    Json {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// An `auth` value that is not `user:password` in base 64.
    #[error("the entry of `{0}` in the auth file is not `user:password` in base 64")]
    Entry(String),
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// Returns the credentials for a registry in a Docker auth file (`auths`), anonymous ones
    /// where it has none. Entries may be written as `host:port` or as a URL.
    ///
    /// # Errors
    /// [`CredentialsError`], which never shows a secret.
    pub fn from_auth_file(content: &[u8], address: &Address) -> Result<Self, CredentialsError> {
        let file: AuthFile =
            serde_json::from_slice(content).map_err(|error| CredentialsError::Json {
                line: error.line(),
                column: error.column(),
            })?;
        let authority = address.authority();
        let Some((key, entry)) = file
            .auths
            .into_iter()
            .find(|(key, _)| host_of(key) == authority)
        else {
            return Ok(Self::Anonymous);
        };
        if let (Some(username), Some(password)) = (entry.username, entry.password) {
            return Ok(Self::Basic {
                username,
                password: Secret(password),
            });
        }
        let Some(auth) = entry.auth.filter(|auth| !auth.is_empty()) else {
            return Ok(Self::Anonymous);
        };
        let decoded = STANDARD.decode(auth).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let (username, password) = text
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .ok_or(CredentialsError::Entry(key))?;
        Ok(Self::Basic {
            username: username.to_owned(),
            password: Secret::new(password.trim_end_matches('\0')),
        })
    }
}

fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &str, address: &str) -> Result<Credentials, CredentialsError> {
        Credentials::from_auth_file(content.as_bytes(), &address.parse().unwrap())
    }

    #[test]
    fn entries_are_found_by_host_and_port() {
        let file = r#"{"auths":{"a:1":{"auth":"dXNlcjpwYXNzOndvcmQ="},
            "https://b.example/v1/":{"username":"u","password":"p"},"c":{}}}"#;
        let basic = |username: &str, password: &str| Credentials::Basic {
            username: username.to_owned(),
            password: Secret::new(password),
        };
        assert_eq!(
            found(file, "http://a:1").unwrap(),
            basic("user", "pass:word")
        );
        assert_eq!(found(file, "b.example").unwrap(), basic("u", "p"));
        assert_eq!(found(file, "c").unwrap(), Credentials::Anonymous);
        assert_eq!(found(file, "a:2").unwrap(), Credentials::Anonymous);
        assert_eq!(found("{}", "a").unwrap(), Credentials::Anonymous);
    }

    #[test]
    fn errors_and_debug_output_show_no_secret() {
        let error = found(r#"{"auths":{"a":{"auth":"hunter2!"}}}"#, "a").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
        let error = found(r#"{"auths":"hunter2"}"#, "a").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let shown = format!(
            "{:?}",
            found(
                r#"{"auths":{"a":{"username":"u","password":"hunter2"}}}"#,
                "a"
            )
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
