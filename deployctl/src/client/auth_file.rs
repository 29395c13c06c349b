//! The file in which `docker login`, `podman login` and `skopeo login` keep credentials: where it is and
//! what it holds. Read for the programs, which hand the result to [`super::Options`].

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{Address, Credentials, Secret};

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
    /// An `auth` value that is not `user:password` in base 64.
    #[error("the entry of `{}` in auth file `{}` is not `user:password` in base 64", key.escape_debug(), path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The registry, as the file has it.
        key: String,
    },
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// Loads what is stored for a registry; anonymous ones where nothing is.
    ///
    /// `variable` looks up what the user has set, the environment in most programs. One file is
    /// read: the one that `REGISTRY_AUTH_FILE` names, or else `config.json` in the directory
    /// `DOCKER_CONFIG`, or else `.docker/config.json` in `HOME`. A variable that is empty counts
    /// as not set. A file that is missing holds nothing; the next place is not tried then.
    ///
    /// Of the file only `auths` is used: its entries may be written as `host:port` or as a URL,
    /// and credential helpers are not called.
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
    let Some((key, entry)) = file
        .auths
        .into_iter()
        .find(|(key, _)| host_of(key) == authority)
    else {
        return Ok(Credentials::Anonymous);
    };
    if let (Some(username), Some(password)) = (entry.username, entry.password) {
        return Ok(Credentials::Basic {
            username,
            password: Secret::new(password),
        });
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
    Ok(Credentials::Basic {
        username: username.to_owned(),
        password: Secret::new(password.trim_end_matches('\0')),
    })
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
