//! What the flags mean together with the environment and the home directory: the one place that
//! reads either.

use std::env;

use anyhow::{Context as _, Result};
use deployctl::{
    client::Address,
    connect::{Connection, KnownRegistries, Surroundings, Wanted},
    ops::Project,
    ssh::Passphrase,
};

use crate::{arguments::Global, printer::UsageError, prompt};

/// Returns what is looked up beside the flags; passphrases are asked for on the terminal.
pub(crate) fn surroundings() -> Surroundings {
    Surroundings {
        variable: |name| env::var_os(name),
        passphrase: Passphrase::new(prompt::passphrase),
    }
}

/// Returns what `login` remembers.
pub(crate) fn known() -> KnownRegistries {
    surroundings().known()
}

/// Returns the registry that the flags mean.
pub(crate) fn address(global: &Global) -> Result<Address> {
    let address = global.addr.clone().and_then(|given| given.0);
    Ok(address.ok_or(UsageError(
        "no registry address\nhint: give -addr host:port or set DEPLOYCTL_ADDR",
    ))?)
}

/// Returns what the flags mean.
pub(crate) fn connection(global: &Global) -> Result<Connection> {
    let wanted = Wanted {
        address: address(global)?,
        fingerprint: global.fp.as_ref().and_then(|given| given.0),
        key: global.key.clone(),
    };
    Ok(Connection::find(wanted, &surroundings())?)
}

/// Returns the project that the flags mean.
pub(crate) fn project(global: &Global, author: Option<String>) -> Result<Project> {
    project_at(&connection(global)?, global, author)
}

/// Returns the project that the flags mean, of somebody who signs the releases that he makes: with
/// the key by which he is known to the registry, or else with the only one that the ssh-agent
/// keeps.
pub(crate) async fn signing_project(global: &Global, author: Option<String>) -> Result<Project> {
    let connection = connection(global)?;
    let signer = connection.signer(&surroundings()).await?;
    Ok(Project {
        signer: Some(signer),
        ..project_at(&connection, global, author)?
    })
}

fn project_at(connection: &Connection, global: &Global, author: Option<String>) -> Result<Project> {
    Ok(Project {
        registry: connection.registry()?,
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
