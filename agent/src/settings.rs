//! What the flags mean together with the environment and the home directory: the one place
//! that reads either. Called by `main`.

use std::{env, time::Duration};

use anyhow::{Context, Result};
use deploy_agent::{AnySource, LayoutSource, Notify, RegistrySource};
use deployctl::{
    client::{Address, Credentials, Options, Registry, RetryPolicy},
    layout::{Content, Layout, LayoutArchive},
};

use crate::{arguments::Arguments, origin::Origin};

/// How long a registry can make a single request wait without a word in the log.
const LONGEST_TOLD: Duration = Duration::from_secs(2);

/// Returns the source that the flags name.
pub(crate) fn source(arguments: &Arguments) -> Result<AnySource> {
    Ok(match &arguments.addr {
        Origin::Registry(address) => AnySource::Registry(RegistrySource::new(
            &registry(address, arguments)?,
            &arguments.prefix,
            &arguments.name,
            &arguments.channel,
        )),
        Origin::Layout(path) => layout(Layout::open(path)?, arguments),
        Origin::Archive(path) => layout(LayoutArchive::open(path)?, arguments),
    })
}

/// Returns the service manager that the environment tells of.
pub(crate) fn notify() -> Notify {
    let [socket, microseconds, pid] =
        ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].map(env::var_os);
    Notify::new(socket.as_deref(), microseconds.as_deref(), pid.as_deref())
}

fn layout(content: impl Content + 'static, arguments: &Arguments) -> AnySource {
    AnySource::Layout(LayoutSource::new(
        content,
        arguments.addr.to_string(),
        &arguments.prefix,
        &arguments.name,
        &arguments.channel,
    ))
}

fn registry(address: &Address, arguments: &Arguments) -> Result<Registry> {
    if let Some(key) = &arguments.key {
        // Not used yet; but a name that is misspelt should not wait for the day when it is.
        std::fs::metadata(key).with_context(|| format!("cannot read key `{}`", key.display()))?;
    }
    let options = Options {
        credentials: Credentials::load(address, |name| env::var_os(name))?,
        fingerprint: arguments.fp,
        retry: RetryPolicy {
            progress_timeout: arguments.stall_timeout,
            // Longer pauses are the runner's, which says so.
            longest_told: LONGEST_TOLD,
            ..RetryPolicy::default()
        },
    };
    Ok(Registry::new(address.clone(), options)?)
}
