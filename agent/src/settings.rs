//! What the flags mean together with the environment and the home directory: the one place
//! that reads either. Called by `main`.

use std::{env, time::Duration};

use anyhow::Result;
use deploy_agent::{AnySource, Gate, LayoutSource, Mirrored, Notify, RegistrySource};
use deploy_spec::{ConfigurationName, Fingerprint};
use deployctl::{
    client::{Address, Credentials, Options, Registry, RetryPolicy},
    layout::{Content, Layout, LayoutArchive},
    ssh::{self, Agent, Passphrase},
};

use crate::{arguments::Arguments, origin::Origin};

/// How long a registry can make a single request wait without a word in the log.
const LONGEST_TOLD: Duration = Duration::from_secs(2);

/// Returns the source that the flags name.
pub(crate) fn source(
    arguments: &Arguments,
    name: &ConfigurationName,
) -> Result<Mirrored<AnySource>> {
    let open = |origin, fingerprint| origin_source(origin, fingerprint, arguments, name);
    let mirrors = arguments.mirrors.iter();
    let mirrors = mirrors.map(|mirror| open(&mirror.origin, mirror.fingerprint));
    let mirrors = mirrors.collect::<Result<_>>()?;
    let fingerprint = arguments.fp.as_ref().and_then(|given| given.0);
    Ok(Mirrored::new(open(&arguments.addr, fingerprint)?, mirrors))
}

fn origin_source(
    origin: &Origin,
    fingerprint: Option<Fingerprint>,
    arguments: &Arguments,
    name: &ConfigurationName,
) -> Result<AnySource> {
    Ok(match origin {
        Origin::Registry(address) => AnySource::Registry(RegistrySource::new(
            &registry(address, fingerprint, arguments)?,
            &arguments.prefix,
            name,
            &arguments.channel,
        )),
        Origin::Layout(path) => layout(Layout::open(path)?, origin, arguments, name),
        Origin::Archive(path) => layout(LayoutArchive::open(path)?, origin, arguments, name),
    })
}

/// Returns what signatures the flags ask for.
///
/// # Errors
/// Where the file names nobody: nothing could be deployed then.
pub(crate) fn gate(arguments: &Arguments, name: &ConfigurationName) -> Result<Option<Gate>> {
    let Some(file) = &arguments.allowed_signers else {
        return Ok(None);
    };
    let gate = Gate {
        file: file.clone(),
        zone: jiff::tz::TimeZone::system(),
        repository: arguments.prefix.configuration(name),
    };
    gate.signers().map_err(anyhow::Error::msg)?;
    Ok(Some(gate))
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

fn registry(
    address: &Address,
    fingerprint: Option<Fingerprint>,
    arguments: &Arguments,
) -> Result<Registry> {
    let options = Options {
        credentials: match &arguments.key {
            Some(key) => Credentials::Key(ssh::open(key, ssh_agent(), Passphrase::nobody())?),
            None => Credentials::load(address, |name| env::var_os(name))?,
        },
        fingerprint,
        retry: RetryPolicy {
            progress_timeout: arguments.stall_timeout,
            // Longer pauses are the runner's, which says so.
            longest_told: LONGEST_TOLD,
            ..RetryPolicy::default()
        },
        rate: arguments.limit_rate,
        unfinished: None,
    };
    Ok(Registry::new(address.clone(), options)?)
}

fn ssh_agent() -> Option<Agent> {
    let socket = env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
    socket.map(Agent::new)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn each_registry_is_known_by_its_own_key() {
        const KEY: &str = "SHA256:zPy7elP5hNcnQlTKNwJoZpx4ZeLHaaFEnoREiS1+pQI";
        // A key and plain HTTP contradict each other, which shows whose key it is.
        let opened = |flags: &[&str]| {
            let line = ["deploy-agent", "--name", "x"].iter().chain(flags);
            let arguments = Arguments::try_parse_from(line).unwrap();
            let opened = source(&arguments, arguments.single().unwrap());
            opened.map(drop).map_err(|error| format!("{error:#}"))
        };
        let (plain, safe) = ("http://a.example:1", "https://b.example:1");
        let pinned = |address: &str| format!("--mirror={address}#{KEY}");
        opened(&["--addr", safe, "--fp", KEY, "--mirror", plain]).unwrap();
        opened(&["--addr", plain, &pinned(safe)]).unwrap();
        for wrong in [
            &["--addr", plain, "--fp", KEY, "--mirror", safe][..],
            &["--addr", safe, "--mirror", safe, &pinned(plain)],
        ] {
            let error = opened(wrong).unwrap_err();
            assert!(error.contains("address `http://a.example:1`"), "{error}");
        }
    }
}
