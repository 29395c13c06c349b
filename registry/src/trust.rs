//! Opens who the registry is: its key, and the certificate that it shows. Used by `serve`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use deploy_registry::{Identity, Tls, auth::Names, store::Location};
use deploy_spec::Fingerprint;

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
    Tls::of_identity(identity, &names(flags)).context("cannot make a certificate")
}

/// Returns what the registry knows itself by: its keys, the names that its certificate is for at
/// the time, and those that the flags name, for whatever stands in front of it.
pub(crate) fn known_names(flags: &IdentityFlags, identity: &Identity, tls: &Tls) -> Names {
    let (names, own, tls) = (names(flags), identity.fingerprint(), tls.clone());
    Box::new(move |name| match name.parse::<Fingerprint>() {
        Ok(fingerprint) => fingerprint == own || tls.fingerprint() == Some(fingerprint),
        Err(_) => {
            let Ok(authority) = name.parse::<http::uri::Authority>() else {
                return false;
            };
            let host = authority.host().trim_matches(['[', ']']);
            let same = |name: &String| name.eq_ignore_ascii_case(host);
            names.iter().any(same) || tls.is_for(host)
        }
    })
}

fn names(flags: &IdentityFlags) -> Vec<String> {
    let names = NAMES.iter().map(|name| (*name).to_owned());
    names.chain(flags.name.iter().cloned()).collect()
}
