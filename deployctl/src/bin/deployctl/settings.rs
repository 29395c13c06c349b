//! What the flags mean together with the environment and the home directory: the one place that
//! reads either.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use deploy_spec::Fingerprint;
use deployctl::{
    client::{Address, Credentials, Options, Registry},
    ops::Project,
    ssh::{self, Agent, Passphrase, Signer},
};

use crate::{
    arguments::Global,
    known::{self, Known},
    printer::UsageError,
    prompt,
};

/// A registry, and what is used to talk to it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) address: Address,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) credentials: Credentials,
    /// The file of the key among the credentials.
    pub(crate) key: Option<PathBuf>,
}

impl Connection {
    /// Returns the connection to a registry that `login` remembers.
    pub(crate) fn of(known: &Known) -> Result<Self> {
        let key = known.key.clone();
        Ok(Self {
            address: known.address.parse()?,
            fingerprint: known.fingerprint,
            credentials: match (&key, agent()) {
                (Some(path), agent) => Credentials::Key(open(path, agent)?),
                (None, Some(agent)) => Credentials::Agent(agent),
                (None, None) => Credentials::Anonymous,
            },
            key,
        })
    }

    /// Returns the registry.
    pub(crate) fn registry(&self) -> Result<Registry> {
        let options = Options {
            credentials: self.credentials.clone(),
            fingerprint: self.fingerprint,
            ..Options::default()
        };
        Ok(Registry::new(self.address.clone(), options)?)
    }
}

/// Returns the registry that the flags mean.
pub(crate) fn address(global: &Global) -> Result<Address> {
    let address = global.addr.clone().and_then(|given| given.0);
    Ok(address.ok_or(UsageError(
        "no registry address\nhint: give -addr host:port or set DEPLOYCTL_ADDR",
    ))?)
}

/// Returns what the flags mean, with what `login` remembers where they leave something open: a
/// key that was named, or else what the auth file has, or else the key that was used before, or
/// else whatever the ssh-agent keeps.
pub(crate) fn connection(global: &Global) -> Result<Connection> {
    let address = address(global)?;
    let known = known::recall(&address)?.unwrap_or_default();
    let given = global.fp.as_ref().and_then(|given| given.0);
    // Whoever writes `http://` now does not want what was pinned before.
    let fingerprint = given.or_else(|| known.fingerprint.filter(|_| !address.is_plain_by_choice()));
    let mut key = global.key.clone();
    let credentials = match &key {
        Some(path) => Credentials::Key(open(path, agent())?),
        None => match Credentials::load(&address, |name| env::var_os(name))? {
            Credentials::Anonymous => {
                key = known.key;
                match (&key, agent()) {
                    (Some(path), agent) => Credentials::Key(open(path, agent)?),
                    (None, Some(agent)) => Credentials::Agent(agent),
                    (None, None) => Credentials::Anonymous,
                }
            }
            stored => stored,
        },
    };
    Ok(Connection {
        address,
        fingerprint,
        credentials,
        key,
    })
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
    let signer = signer(&connection).await?;
    Ok(Project {
        signer: Some(signer),
        ..project_at(&connection, global, author)?
    })
}

async fn signer(connection: &Connection) -> Result<Signer> {
    if let Credentials::Key(signer) = &connection.credentials {
        return Ok(signer.clone());
    }
    let keys = match agent() {
        Some(agent) => agent.keys().await?,
        None => Vec::new(),
    };
    match &*keys {
        [only] => Ok(only.clone()),
        [] => bail!("there is no key to sign with\nhint: give -key FILE, or `ssh-add` one"),
        several => bail!(
            "the ssh-agent keeps {} keys, and it is not said which of them signs\nhint: give -key FILE; its public half is enough",
            several.len()
        ),
    }
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

/// Returns the SSH key in a file, whose passphrase is asked for on the terminal.
pub(crate) fn open(path: &Path, agent: Option<Agent>) -> Result<Signer> {
    Ok(ssh::open(path, agent, Passphrase::new(prompt::passphrase))?)
}

/// Returns the ssh-agent of this session.
pub(crate) fn agent() -> Option<Agent> {
    let socket = env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
    socket.map(Agent::new)
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
