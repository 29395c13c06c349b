//! The file in which `docker login`, `podman login` and `skopeo login` keep credentials: where it is and
//! what it holds, and which helper has them instead. Read for the programs, which hand the result
//! to [`super::Options`].

mod helper;
mod write;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{Address, Credentials, Secret};
pub use write::{forget, store};

/// An auth file that cannot be used. No message shows what stands in it: that is secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It is there and cannot be read.
    #[error("cannot read auth file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not JSON, or a property of the wrong type.
    #[error("auth file `{}` is not valid JSON of the expected form (line {line}, column {column})", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// There is no home directory to keep it in.
    #[error(
        "there is no place for credentials\nhint: set REGISTRY_AUTH_FILE, DOCKER_CONFIG or HOME"
    )]
    Nowhere,
    /// It cannot be changed.
    #[error("cannot write auth file `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program that keeps them did not give them out.
    #[error("credential helper `docker-credential-{}` gave nothing for `{server}`: {reason}", name.escape_debug())]
    Helper {
        /// Its name.
        name: String,
        /// The registry.
        server: String,
        /// Why.
        reason: String,
    },
    /// An `auth` value that is not `user:password` in base 64.
    #[error("the entry of `{}` in auth file `{}` is not `user:password` in base 64", key.escape_debug(), path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The registry, as the file has it.
        key: String,
    },
}

/// The helper of ours, `docker-credential-<this>`: it signs with SSH keys.
pub const HELPER: &str = "deployctl";

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    /// Programs that have the credentials of some registries.
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    /// The program that has those of all others.
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    /// A refresh token, as Docker keeps it.
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
}

impl Credentials {
    /// Loads what is stored for a registry; anonymous ones where nothing is.
    ///
    /// `variable` looks up what the user has set, the environment in most programs. One file is
    /// read: the one that `REGISTRY_AUTH_FILE` names, or else `config.json` in the directory
    /// `DOCKER_CONFIG`, or else `.docker/config.json` in `HOME`. A variable that is empty counts
    /// as not set. A file that is missing holds nothing; the next place is not tried then.
    ///
    /// Of the file `credHelpers`, `auths` and `credsStore` are used, in this order. Entries of
    /// `auths` may be written as `host:port` or as a URL. Runs the helper, if there is one,
    /// and waits for it; but not [`HELPER`], which knows no more than the caller does.
    ///
    /// # Errors
    /// [`CredentialsError`] where the file is there and of no use.
    pub fn load(
        address: &Address,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, CredentialsError> {
        let Some(path) = locate(variable) else {
            return Ok(Self::Anonymous);
        };
        match fs::read(&path) {
            Ok(content) => parse(&content, &path, address),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Anonymous),
            Err(source) => Err(CredentialsError::Read { path, source }),
        }
    }
}

fn locate(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    if let Some(path) = set("REGISTRY_AUTH_FILE") {
        return Some(path.into());
    }
    if let Some(directory) = set("DOCKER_CONFIG") {
        return Some(Path::new(&directory).join("config.json"));
    }
    Some(Path::new(&set("HOME")?).join(".docker/config.json"))
}

/// Returns the credentials for a registry in an auth file's content; `path` is for messages.
fn parse(content: &[u8], path: &Path, address: &Address) -> Result<Credentials, CredentialsError> {
    let file: AuthFile =
        serde_json::from_slice(content).map_err(|error| CredentialsError::Json {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })?;
    let authority = address.authority();
    let mut helpers = file.helpers.into_iter();
    if let Some((_, name)) = helpers.find(|(key, _)| host_of(key) == authority) {
        return match name.as_str() {
            HELPER => Ok(Credentials::Anonymous),
            name => helper::ask(name, &authority),
        };
    }
    let mut entries = file.auths.into_iter();
    let Some((key, entry)) = entries.find(|(key, _)| host_of(key) == authority) else {
        return match file.store.as_deref() {
            None | Some("" | HELPER) => Ok(Credentials::Anonymous),
            Some(name) => helper::ask(name, &authority),
        };
    };
    if let Some(token) = entry.identity_token.filter(|token| !token.is_empty()) {
        return Ok(Credentials::Refresh(Secret::new(token)));
    }
    if let (Some(username), Some(password)) = (entry.username, entry.password) {
        return Ok(credentials(username, password));
    }
    let Some(auth) = entry.auth.filter(|auth| !auth.is_empty()) else {
        return Ok(Credentials::Anonymous);
    };
    let decoded = STANDARD.decode(auth).ok();
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let (username, password) = text
        .as_deref()
        .and_then(|text| text.split_once(':'))
        .ok_or_else(|| CredentialsError::Entry {
            path: path.to_owned(),
            key,
        })?;
    let password = password.trim_end_matches('\0');
    Ok(credentials(username.to_owned(), password.to_owned()))
}

/// Docker's helpers give tokens out under this name.
fn credentials(username: String, password: String) -> Credentials {
    let password = Secret::new(password);
    match username.as_str() {
        "" => Credentials::Anonymous,
        "<token>" => Credentials::Refresh(password),
        _ => Credentials::Basic { username, password },
    }
}

fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Credentials {
        Credentials::Basic {
            username: username.to_owned(),
            password: Secret::new(password),
        }
    }

    fn found(content: &str, address: &str) -> Result<Credentials, CredentialsError> {
        let path = Path::new("config.json");
        parse(content.as_bytes(), path, &address.parse().unwrap())
    }

    #[test]
    fn entries_are_found_by_host_and_port() {
        let file = r#"{"auths":{"a:1":{"auth":"dXNlcjpwYXNzOndvcmQ="},
            "https://b.example/v1/":{"username":"u","password":"p"},"c":{}}}"#;
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

    #[test]
    fn one_place_is_looked_at_and_a_missing_file_is_nobody() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, user: &str| {
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let entry = format!(r#"{{"auths":{{"a":{{"username":"{user}","password":"p"}}}}}}"#);
            fs::write(path, entry).unwrap();
        };
        write("auth.json", "of the file");
        write("docker/config.json", "of the directory");
        write("home/.docker/config.json", "of the home");
        let load = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let (_, value) = variables.iter().find(|(set, _)| *set == name)?;
                let path = place.path().join(value).into_os_string();
                Some(if value.is_empty() {
                    OsString::new()
                } else {
                    path
                })
            };
            Credentials::load(&"a".parse().unwrap(), variable)
        };
        let (file, docker) = (
            ("REGISTRY_AUTH_FILE", "auth.json"),
            ("DOCKER_CONFIG", "docker"),
        );
        let home = ("HOME", "home");
        let table = [
            (&[home, docker, file][..], basic("of the file", "p")),
            (&[home, docker], basic("of the directory", "p")),
            (&[home], basic("of the home", "p")),
            (&[("DOCKER_CONFIG", ""), home], basic("of the home", "p")),
            (
                &[("DOCKER_CONFIG", "missing"), home],
                Credentials::Anonymous,
            ),
            (&[], Credentials::Anonymous),
        ];
        for (variables, expected) in table {
            assert_eq!(load(variables).unwrap(), expected, "{variables:?}");
        }
        let error = load(&[("REGISTRY_AUTH_FILE", "docker")]).unwrap_err();
        assert!(matches!(error, CredentialsError::Read { .. }), "{error}");
    }
}
