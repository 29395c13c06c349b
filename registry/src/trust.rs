//! Opens who the registry is: its key, and the certificate that it shows. Used by `serve`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use deploy_registry::{Identity, Tls, store::Location};

use crate::arguments::IdentityFlags;

/// Holds the key itself, for machines without a disk to keep it on.
const VARIABLE: &str = "DEPLOY_REGISTRY_HOST_KEY";
/// The key's name beside what a directory keeps.
const FILE: &str = "host_key";
/// What the registry's own certificate is always for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The certificate's files, where it is not the registry's own.
#[derive(Clone, Debug)]
pub(crate) struct CertificateFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl CertificateFiles {
    /// Returns the files that the flags name.
    pub(crate) fn of(flags: &IdentityFlags) -> Option<Self> {
        Some(Self {
            certificate: flags.tls_cert.clone()?,
            key: flags.tls_key.clone()?,
        })
    }
}

/// Returns the registry's key: the one that is given, or else the one that lies with its data,
/// which is made where nothing is there.
pub(crate) fn identity(
    flags: &IdentityFlags,
    location: &Location,
    read_only: bool,
) -> Result<Identity> {
    if let Some(file) = &flags.host_key {
        return Ok(Identity::open_or_create(file)?);
    }
    match std::env::var(VARIABLE) {
        Ok(pem) => return Ok(Identity::parse(&pem, VARIABLE)?),
        Err(std::env::VarError::NotPresent) => {}
        Err(error) => bail!("`{VARIABLE}` is of no use: {error}"),
    }
    match location {
        Location::Directory(directory) if read_only => {
            let found = Identity::open(&directory.join(FILE))?;
            Ok(found.unwrap_or_else(ephemeral))
        }
        Location::Directory(directory) => Ok(Identity::open_or_create(&directory.join(FILE))?),
        Location::Memory => Ok(Identity::generate()),
        Location::Bucket(_) => Ok(ephemeral()),
    }
}

/// Replicas of one bucket have to have one key, and nobody pins what changes at each start.
fn ephemeral() -> Identity {
    tracing::warn!(
        "the registry's key is made anew at each start; give it one with `--host-key`, or in {VARIABLE}"
    );
    Identity::generate()
}

/// Returns the TLS that the flags ask for.
pub(crate) fn tls(flags: &IdentityFlags, identity: &Identity) -> Result<Tls> {
    if let Some(files) = CertificateFiles::of(flags) {
        return Ok(Tls::of_files(&files.certificate, &files.key)?);
    }
    let names = NAMES.iter().map(|name| (*name).to_owned());
    let names: Vec<String> = names.chain(flags.tls_name.iter().cloned()).collect();
    Tls::of_identity(identity, &names).context("cannot make a certificate")
}
