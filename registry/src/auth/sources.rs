//! The files that say who is known, read together. Asked by `gatekeeper`.

use std::path::{Path, PathBuf};

use deploy_spec::Fingerprint;

use super::{Grant, KnownKeys, LineError, Role, htpasswd_file, keys_file, passwords::Passwords};

/// Where keys and users are, and what nobody in particular may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Keys of those who read and write.
    pub operators: Option<PathBuf>,
    /// Keys of those who read.
    pub services: Option<PathBuf>,
    /// Users and what their passwords are checked against, each with what he may do.
    pub users: Option<PathBuf>,
    /// What is done without any key.
    pub anonymous: Option<Role>,
}

impl Sources {
    /// Returns the files that there are.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let files = [&self.operators, &self.services, &self.users];
        files.into_iter().flatten()
    }
}

/// Why a file of keys or users is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// It cannot be read.
    #[error("cannot read who is known from `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of it is wrong.
    #[error("cannot use `{}`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which, and what is wrong.
        source: LineError,
    },
    /// Nobody is in it.
    #[error("no key is in `{}`, so nobody could use it\nhint: put public keys there, one a line, as in `~/.ssh/authorized_keys`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Nobody is in it.
    #[error("no user is in `{}`, so nobody could use it\nhint: `htpasswd -B` adds one", path.display())]
    NoUsers {
        /// The file.
        path: PathBuf,
    },
    /// Somebody would have two roles.
    #[error("key `{key}` is in `{}` and in `{}`: it can be in one of them only", operators.display(), services.display())]
    Both {
        /// The key.
        key: Fingerprint,
        /// Where it may write.
        operators: PathBuf,
        /// Where it may read.
        services: PathBuf,
    },
}

/// What the files say together.
pub(super) struct Read {
    pub(super) keys: KnownKeys,
    pub(super) passwords: Passwords,
    pub(super) anonymous: Option<Grant>,
}

/// Reads all files.
///
/// # Errors
/// [`SourcesError`].
pub(super) fn read(sources: &Sources) -> Result<Read, SourcesError> {
    let mut keys = read_keys(sources.operators.as_deref(), Role::Write)?;
    let services = read_keys(sources.services.as_deref(), Role::Read)?;
    for (fingerprint, key) in services {
        if keys.insert(fingerprint, key).is_some() {
            return Err(SourcesError::Both {
                key: fingerprint,
                operators: sources.operators.clone().unwrap_or_default(),
                services: sources.services.clone().unwrap_or_default(),
            });
        }
    }
    Ok(Read {
        keys,
        passwords: read_users(sources.users.as_deref())?,
        anonymous: sources.anonymous.map(Grant::of),
    })
}

fn read_keys(path: Option<&Path>, role: Role) -> Result<KnownKeys, SourcesError> {
    let Some(path) = path else {
        return Ok(KnownKeys::new());
    };
    let keys = read_file(path, |text| keys_file::parse(text, role))?;
    let path = path.to_owned();
    match keys.is_empty() {
        true => Err(SourcesError::Empty { path }),
        false => Ok(keys),
    }
}

fn read_users(path: Option<&Path>) -> Result<Passwords, SourcesError> {
    let Some(path) = path else {
        return Ok(Passwords::default());
    };
    let users = read_file(path, htpasswd_file::parse)?;
    let path = path.to_owned();
    match users.is_empty() {
        true => Err(SourcesError::NoUsers { path }),
        false => Ok(Passwords::of(users)),
    }
}

fn read_file<T>(
    path: &Path,
    parse: impl Fn(&str) -> Result<T, LineError>,
) -> Result<T, SourcesError> {
    let owned = || path.to_owned();
    let text = std::fs::read_to_string(path).map_err(|source| SourcesError::File {
        path: owned(),
        source,
    })?;
    parse(&text).map_err(|source| SourcesError::Line {
        path: owned(),
        source,
    })
}
