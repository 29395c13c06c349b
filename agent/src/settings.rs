//! What the flags mean together with the environment and the home directory: the one place
//! that reads either. Called by `main`.

use std::env;

use anyhow::{Context, Result};
use deploy_agent::{AnySource, LayoutSource, RegistrySource};
use deployctl::{
    client::{Address, Credentials, Options, Registry},
    layout::{Content, Layout, LayoutArchive},
};

use crate::{arguments::Arguments, origin::Origin};

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
        ..Options::default()
    };
    Ok(Registry::new(address.clone(), options)?)
}
