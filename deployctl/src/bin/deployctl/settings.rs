//! What the flags mean together with the environment and the home directory: the one place that
//! reads either.

use std::env;

use anyhow::{Context, Result};
use deployctl::{
    client::{Credentials, Options, Registry},
    ops::Project,
};

use crate::{arguments::Global, printer::UsageError};

/// Returns the project that the flags mean.
pub(crate) fn project(global: &Global, author: Option<String>) -> Result<Project> {
    let address = global.addr.clone().and_then(|given| given.0);
    let address = address.ok_or(UsageError(
        "no registry address\nhint: give -addr host:port or set DEPLOYCTL_ADDR",
    ))?;
    if let Some(key) = &global.key {
        // Not used yet; but a name that is misspelt should not wait for the day when it is.
        std::fs::metadata(key).with_context(|| format!("cannot read key `{}`", key.display()))?;
    }
    let options = Options {
        credentials: Credentials::load(&address, |name| env::var_os(name))?,
        fingerprint: global.fp.as_ref().and_then(|given| given.0),
        ..Options::default()
    };
    Ok(Project {
        registry: Registry::new(address, options)?,
        prefix: global.prefix.clone(),
        clock: jiff::Timestamp::now,
        author: author.or_else(user),
        signer: None,
        scratch: env::temp_dir(),
    })
}

/// Returns the latest time that packing may record: `SOURCE_DATE_EPOCH`, as other tools that
/// build reproducibly understand it.
pub(crate) fn source_date() -> Result<Option<i64>> {
    let Some(text) = env::var_os("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    let seconds = seconds.with_context(|| {
        format!(
            "SOURCE_DATE_EPOCH is `{}`, which is no number of seconds",
            text.display()
        )
    })?;
    Ok(Some(seconds))
}

fn user() -> Option<String> {
    ["USER", "LOGNAME"]
        .into_iter()
        .filter_map(|name| env::var(name).ok())
        .find(|user| !user.is_empty())
}
