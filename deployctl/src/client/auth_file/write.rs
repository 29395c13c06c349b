//! Changing the auth file, which others keep things in too: whole or not at all, for its owner's
//! eyes only, everything else in it as it was.

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{CredentialsError, HELPER, host_of, locate};
use crate::client::{Address, Credentials};

/// Where container tools look for credentials, and which program they ask.
const AUTHS: &str = "auths";
const HELPERS: &str = "credHelpers";

/// Keeps credentials for a registry in the auth file, where container clients find them, and
/// returns which file that is. Keys are not written anywhere: for those, clients are told to ask
/// [`HELPER`].
///
/// `variable` looks up what the user has set, as for [`Credentials::load`]. Atomic.
///
/// # Errors
/// [`CredentialsError`].
pub fn store(
    address: &Address,
    credentials: &Credentials,
    variable: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<PathBuf, CredentialsError> {
    change(variable, |file| {
        let server = address.authority();
        remove(file, &server);
        let (part, value) = match credentials {
            Credentials::Basic { username, password } => {
                let pair = format!("{username}:{}", password.reveal());
                (AUTHS, json!({ "auth": STANDARD.encode(pair) }))
            }
            Credentials::Refresh(token) => (AUTHS, json!({ "identitytoken": token.reveal() })),
            Credentials::Key(_) | Credentials::Agent(_) => (HELPERS, json!(HELPER)),
            Credentials::Anonymous => return true,
        };
        let part = file.entry(part).or_insert_with(|| json!({}));
        if let Some(part) = part.as_object_mut() {
            part.insert(server, value);
        }
        true
    })
}

/// Forgets what the auth file has for a registry, and returns which file that is; nothing where it
/// has nothing. Atomic.
///
/// # Errors
/// [`CredentialsError`].
pub fn forget(
    address: &Address,
    variable: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<Option<PathBuf>, CredentialsError> {
    let mut had = false;
    let path = change(variable, |file| {
        had = remove(file, &address.authority());
        had
    })?;
    Ok(had.then_some(path))
}

/// Returns whether there was anything.
fn remove(file: &mut Map<String, Value>, server: &str) -> bool {
    let mut had = false;
    for part in [AUTHS, HELPERS] {
        if let Some(part) = file.get_mut(part).and_then(Value::as_object_mut) {
            let before = part.len();
            part.retain(|key, _| host_of(key) != server);
            had |= part.len() < before;
        }
    }
    had
}

/// Changes what the file holds; `change` returns whether anything is to be written.
fn change(
    variable: impl Fn(&str) -> Option<std::ffi::OsString>,
    change: impl FnOnce(&mut Map<String, Value>) -> bool,
) -> Result<PathBuf, CredentialsError> {
    let path = locate(variable).ok_or(CredentialsError::Nowhere)?;
    // A link stays one.
    let path = fs::canonicalize(&path).unwrap_or(path);
    let mut file = read(&path)?;
    if change(&mut file) {
        let written = write(&path, &Value::Object(file));
        written.map_err(|source| CredentialsError::Write {
            path: path.clone(),
            source,
        })?;
    }
    Ok(path)
}

fn read(path: &Path) -> Result<Map<String, Value>, CredentialsError> {
    let malformed = |line, column| CredentialsError::Json {
        path: path.to_owned(),
        line,
        column,
    };
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
        Err(source) => Err(CredentialsError::Read {
            path: path.to_owned(),
            source,
        }),
        Ok(content) if content.trim_ascii().is_empty() => Ok(Map::new()),
        Ok(content) => {
            let read: Result<Value, _> = serde_json::from_slice(&content);
            let value = read.map_err(|error| malformed(error.line(), error.column()))?;
            let of_objects = |value: &Value| value.is_object();
            match value {
                Value::Object(file)
                    if [AUTHS, HELPERS]
                        .iter()
                        .all(|part| file.get(*part).is_none_or(of_objects)) =>
                {
                    Ok(file)
                }
                _ => Err(malformed(1, 1)),
            }
        }
    }
}

fn write(path: &Path, content: &Value) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut new = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    serde_json::to_writer_pretty(&mut new, content)?;
    new.write_all(b"\n")?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Secret;

    #[test]
    fn what_others_keep_in_the_file_stays() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("config.json");
        let variable =
            |name: &str| (name == "REGISTRY_AUTH_FILE").then(|| path.clone().into_os_string());
        fs::write(
            &path,
            r#"{"psFormat":"x","auths":{"other:1":{"auth":"YTpi"}}}"#,
        )
        .unwrap();
        let address: Address = "https://a.example:1".parse().unwrap();
        let jane = Credentials::Basic {
            username: "jane".to_owned(),
            password: Secret::new("p:w"),
        };
        for credentials in [jane, Credentials::Refresh(Secret::new("t"))] {
            assert_eq!(store(&address, &credentials, variable).unwrap(), path);
            assert_eq!(Credentials::load(&address, variable).unwrap(), credentials);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let agent = Credentials::Agent(crate::ssh::Agent::new("/nowhere"));
        store(&address, &agent, variable).unwrap();
        let held: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(held["credHelpers"]["a.example:1"], "deployctl");
        assert_eq!(held["auths"]["a.example:1"], Value::Null);
        assert_eq!(forget(&address, variable).unwrap(), Some(path.clone()));
        assert_eq!(forget(&address, variable).unwrap(), None);
        let held: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(held["auths"]["other:1"]["auth"], "YTpi");
        assert_eq!(held["psFormat"], "x");
        fs::write(&path, "[]").unwrap();
        assert!(store(&address, &agent, variable).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "[]");
    }
}
