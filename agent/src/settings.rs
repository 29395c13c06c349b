//! What the flags mean together with the environment and the home directory: the one place
//! that reads either. Called by `main`.

use std::env;

use anyhow::{Context, Result};
use deployctl::client::{Credentials, Options, Registry};

use crate::arguments::Arguments;

/// Returns the registry that the flags name.
pub(crate) fn registry(arguments: &Arguments) -> Result<Registry> {
    if let Some(key) = &arguments.key {
        // Not used yet; but a name that is misspelt should not wait for the day when it is.
        std::fs::metadata(key).with_context(|| format!("cannot read key `{}`", key.display()))?;
    }
    let options = Options {
        credentials: Credentials::load(&arguments.addr, |name| env::var_os(name))?,
        fingerprint: arguments.fp,
        ..Options::default()
    };
    Ok(Registry::new(arguments.addr.clone(), options)?)
}
