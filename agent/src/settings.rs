//! What the flags mean together with the environment and the home directory: the one place
//! that reads either. Called by `main`.

use std::{env, time::Duration};

use anyhow::{Context, Result};
use deploy_agent::{AnySource, LayoutSource, Mirrored, Notify, RegistrySource};
use deploy_spec::ConfigurationName;
use deployctl::{
    client::{Address, Credentials, Options, Registry, RetryPolicy},
    layout::{Content, Layout, LayoutArchive},
};

use crate::{arguments::Arguments, origin::Origin};

/// How long a registry can make a single request wait without a word in the log.
const LONGEST_TOLD: Duration = Duration::from_secs(2);

/// Returns the source that the flags name.
pub(crate) fn source(
    arguments: &Arguments,
    name: &ConfigurationName,
) -> Result<Mirrored<AnySource>> {
    let open = |origin| origin_source(origin, arguments, name);
    let mirrors = arguments.mirrors.iter().map(open).collect::<Result<_>>()?;
    Ok(Mirrored::new(open(&arguments.addr)?, mirrors))
}

fn origin_source(
    origin: &Origin,
    arguments: &Arguments,
    name: &ConfigurationName,
) -> Result<AnySource> {
    Ok(match origin {
        Origin::Registry(address) => AnySource::Registry(RegistrySource::new(
            &registry(address, arguments)?,
            &arguments.prefix,
            name,
            &arguments.channel,
        )),
        Origin::Layout(path) => layout(Layout::open(path)?, origin, arguments, name),
        Origin::Archive(path) => layout(LayoutArchive::open(path)?, origin, arguments, name),
    })
}

/// Returns the service manager that the environment tells of.
pub(crate) fn notify() -> Notify {
    let [socket, microseconds, pid] =
        ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].map(env::var_os);
    Notify::new(socket.as_deref(), microseconds.as_deref(), pid.as_deref())
}

fn layout(
    content: impl Content + 'static,
    origin: &Origin,
    arguments: &Arguments,
    name: &ConfigurationName,
) -> AnySource {
    AnySource::Layout(LayoutSource::new(
        content,
        origin.to_string(),
        &arguments.prefix,
        name,
        &arguments.channel,
    ))
}

fn registry(address: &Address, arguments: &Arguments) -> Result<Registry> {
    let is_origin = matches!(&arguments.addr, Origin::Registry(origin) if origin == address);
    if let Some(key) = &arguments.key {
        // Not used yet; but a name that is misspelt should not wait for the day when it is.
        std::fs::metadata(key).with_context(|| format!("cannot read key `{}`", key.display()))?;
    }
    let options = Options {
        credentials: Credentials::load(address, |name| env::var_os(name))?,
        // A mirror has another key; what it sends is known by its digest.
        fingerprint: arguments.fp.filter(|_| is_origin),
        retry: RetryPolicy {
            progress_timeout: arguments.stall_timeout,
            // Longer pauses are the runner's, which says so.
            longest_told: LONGEST_TOLD,
            ..RetryPolicy::default()
        },
        rate: arguments.limit_rate,
    };
    Ok(Registry::new(address.clone(), options)?)
}
