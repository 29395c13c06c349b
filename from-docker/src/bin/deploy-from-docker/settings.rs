//! What the flags mean together with the environment and the home directory: the one place that
//! reads either.

use std::{
    env,
    fs::File,
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use deploy_from_docker::{
    ImageName, Platform, Request, SourceReference,
    source::{Surroundings, Wanted as WantedPlatform},
};
use deployctl::{
    archive::Depth,
    client::{Address, Registry, Secret},
    connect::{self, Connection, Wanted},
    ops::{Project, architecture},
    ssh::Passphrase,
};

use crate::{
    arguments::{Import, Target, Unit},
    printer::UsageError,
};

/// Where container engines listen unless told otherwise.
const SOCKET: &str = "/var/run/docker.sock";

/// Returns the image that is meant.
pub(crate) fn image(arguments: &Import) -> Result<SourceReference> {
    match &arguments.image {
        Some(image) => Ok(image.clone()),
        None if io::stdin().is_terminal() => bail!(UsageError(
            "no image, and standard input is a terminal\nhint: name an image, or write `docker save IMAGE | deploy-from-docker`"
        )),
        None => Ok(SourceReference::Stdin),
    }
}

/// Returns the connection to the target.
pub(crate) fn target(arguments: &Target) -> Result<Connection> {
    let address = arguments.addr.clone().and_then(|given| given.0);
    let wanted = Wanted {
        address: address.ok_or(UsageError(
            "no registry address\nhint: give -addr host:port or set DEPLOYCTL_ADDR",
        ))?,
        fingerprint: arguments.fp.as_ref().and_then(|given| given.0),
        key: arguments.key.clone(),
    };
    Ok(Connection::find(wanted, &surroundings())?)
}

/// Returns the project that the image is imported into.
pub(crate) async fn project(target: &Connection, arguments: &Import) -> Result<Project> {
    let signer = match arguments.sign {
        true => Some(target.signer(&surroundings()).await?),
        false => None,
    };
    Ok(Project {
        registry: target.registry()?,
        prefix: arguments.target.prefix.clone(),
        clock: jiff::Timestamp::now,
        author: arguments.author.clone().or_else(user),
        signer,
        scratch: env::temp_dir(),
    })
}

/// Returns the project that releases are read of.
pub(crate) fn reading(arguments: &Target) -> Result<Project> {
    Ok(Project {
        registry: target(arguments)?.registry()?,
        prefix: arguments.prefix.clone(),
        clock: jiff::Timestamp::now,
        author: None,
        signer: None,
        scratch: env::temp_dir(),
    })
}

/// Returns where a host has the tree.
pub(crate) fn root(verb: &Unit) -> Result<PathBuf> {
    let root = match &verb.root {
        Some(root) => root.clone(),
        None => Path::new("/srv").join(verb.name.as_str()),
    };
    std::path::absolute(&root).with_context(|| format!("use the root `{}`", root.display()))
}

/// Returns what the image is found with.
pub(crate) fn source(
    image: &SourceReference,
    target: &Connection,
    arguments: &Import,
) -> Result<Surroundings> {
    let wanted = match &arguments.platform {
        Some(platform) => WantedPlatform::Exactly(platform.clone()),
        None => WantedPlatform::Preferably(Platform::linux(architecture())),
    };
    Ok(Surroundings {
        wanted,
        registry: match image {
            SourceReference::Registry(name) => Some(registry(name, target, arguments)?),
            _ => None,
        },
        socket: match image {
            SourceReference::Daemon(_) => socket()?,
            _ => PathBuf::new(),
        },
        scratch: env::temp_dir(),
        stdin: stdin()?,
    })
}

/// Returns what is to become of the image.
pub(crate) fn request(arguments: &Import) -> Request {
    Request {
        name: arguments.name.clone(),
        component_prefix: arguments.component_prefix.clone(),
        on_top: arguments.layers.clone(),
        channel: arguments.channel.clone(),
        reason: arguments.reason.clone(),
        recompress: arguments.recompress.map(Into::into),
        flatten: arguments.flatten,
        depth: match arguments.verify_layers {
            true => Depth::End,
            false => Depth::Beginning,
        },
        scratch: env::temp_dir(),
    }
}

/// Returns the registry that the image is in; where it is the target, it is talked to alike.
fn registry(name: &ImageName, target: &Connection, arguments: &Import) -> Result<Registry> {
    let address = with_scheme(&name.address()?, arguments.src_tls_verify)?;
    let is_target = address.authority() == target.address.authority();
    if is_target && arguments.src_fp.is_none() && arguments.src_tls_verify.is_none() {
        return Ok(target.registry()?);
    }
    let wanted = Wanted {
        address: with_scheme(&name.account()?, arguments.src_tls_verify)?,
        fingerprint: arguments.src_fp,
        key: None,
    };
    let connection = Connection {
        address,
        ..Connection::find(wanted, &surroundings())?
    };
    Ok(connection.registry()?)
}

fn with_scheme(address: &Address, tls: Option<bool>) -> Result<Address> {
    let scheme = match tls {
        None => return Ok(address.clone()),
        Some(true) => "https",
        Some(false) => "http",
    };
    Ok(format!("{scheme}://{}", address.authority()).parse()?)
}

fn socket() -> Result<PathBuf> {
    let host = env::var_os("DOCKER_HOST").filter(|host| !host.is_empty());
    let Some(host) = host else {
        return Ok(SOCKET.into());
    };
    let path = host.to_str().and_then(|host| host.strip_prefix("unix://"));
    let path = path.with_context(|| {
        format!(
            "DOCKER_HOST is `{}`, and only engines of this machine are asked\nhint: set it to unix:///PATH, or run `docker save IMAGE | deploy-from-docker`",
            host.display()
        )
    })?;
    Ok(path.into())
}

fn stdin() -> Result<Arc<File>> {
    let stdin = io::stdin().as_fd().try_clone_to_owned();
    Ok(Arc::new(File::from(stdin.context("use standard input")?)))
}

fn surroundings() -> connect::Surroundings {
    connect::Surroundings {
        variable: |name| env::var_os(name),
        passphrase: Passphrase::new(passphrase),
    }
}

/// Returns the passphrase of a key, as somebody types it; nothing where nobody is there.
fn passphrase(path: &Path) -> Option<Secret> {
    if !io::stderr().is_terminal() && !io::stdin().is_terminal() {
        return None;
    }
    let question = format!("Passphrase of {}: ", path.display());
    rpassword::prompt_password(question).ok().map(Secret::new)
}

fn user() -> Option<String> {
    ["USER", "LOGNAME"]
        .into_iter()
        .filter_map(|name| env::var(name).ok())
        .find(|user| !user.is_empty())
}
