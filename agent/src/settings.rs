//! What the flags mean together with the environment and the home directory: the one place
//! that reads either. Called by `main`.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use deployctl::client::{Address, Credentials, Options, Registry};

use crate::arguments::Arguments;

/// Returns the registry that the flags name.
pub(crate) fn registry(arguments: &Arguments) -> Result<Registry> {
    if let Some(key) = &arguments.key {
        // Not used yet; but a name that is misspelt should not wait for the day when it is.
        std::fs::metadata(key).with_context(|| format!("cannot read key `{}`", key.display()))?;
    }
    let options = Options {
        credentials: credentials(&arguments.addr)?,
        fingerprint: arguments.fp,
        ..Options::default()
    };
    Ok(Registry::new(arguments.addr.clone(), options)?)
}

/// Returns what `docker login` and its like have stored for the registry.
fn credentials(address: &Address) -> Result<Credentials> {
    let Some(path) = auth_file() else {
        return Ok(Credentials::Anonymous);
    };
    let content = match std::fs::read(&path) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Credentials::Anonymous);
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
        }
    };
    Credentials::from_auth_file(&content, address)
        .with_context(|| format!("cannot use `{}`", path.display()))
}

/// The first of the places where container tools keep their credentials.
fn auth_file() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = variable("REGISTRY_AUTH_FILE") {
        return Some(path.into());
    }
    if let Some(directory) = variable("DOCKER_CONFIG") {
        return Some(Path::new(&directory).join("config.json"));
    }
    Some(Path::new(&variable("HOME")?).join(".docker/config.json"))
}
