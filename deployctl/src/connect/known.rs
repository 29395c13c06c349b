//! What `login` remembers of registries, beside what it tells container clients: the fingerprint
//! that was trusted, and the file of the key that was used. No secret is in it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use deploy_spec::Fingerprint;
use serde::{Deserialize, Serialize};

use super::{ConnectError, xdg_directory};
use crate::client::Address;

/// What is known of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The address as it was given, with its scheme.
    pub address: String,
    /// The fingerprint of its key.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// The file of the key that was used, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// The file of what is known. Its operations block.
#[derive(Clone, Debug)]
pub struct KnownRegistries {
    path: Option<PathBuf>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    #[serde(default)]
    registries: BTreeMap<String, Known>,
}

impl KnownRegistries {
    /// Returns the file `deployctl/registries.json` where the XDG base directories have it.
    /// `variable` looks up what is set.
    pub fn locate(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let directory = xdg_directory(variable, "XDG_CONFIG_HOME", ".config");
        Self {
            path: directory.map(|directory| directory.join("deployctl/registries.json")),
        }
    }

    /// Returns what is remembered of a registry.
    ///
    /// # Errors
    /// [`ConnectError::File`].
    pub fn recall(&self, address: &Address) -> Result<Option<Known>, ConnectError> {
        Ok(self.all()?.remove(&address.authority()))
    }

    /// Returns everything that is remembered, by `host[:port]`.
    ///
    /// # Errors
    /// [`ConnectError::File`].
    pub fn all(&self) -> Result<BTreeMap<String, Known>, ConnectError> {
        match &self.path {
            Some(path) => Ok(read(path)?.registries),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Remembers a registry, in place of what was remembered of it.
    ///
    /// # Errors
    /// [`ConnectError::Nowhere`], [`ConnectError::File`].
    pub fn remember(&self, address: &Address, known: Known) -> Result<(), ConnectError> {
        let path = self.path.as_ref().ok_or(ConnectError::Nowhere)?;
        let mut file = read(path)?;
        file.registries.insert(address.authority(), known);
        write(path, &file)
    }

    /// Forgets a registry, and returns whether anything was known of it.
    ///
    /// # Errors
    /// [`ConnectError::File`].
    pub fn forget(&self, address: &Address) -> Result<bool, ConnectError> {
        let Some(path) = &self.path else {
            return Ok(false);
        };
        let mut file = read(path)?;
        let had = file.registries.remove(&address.authority()).is_some();
        if had {
            write(path, &file)?;
        }
        Ok(had)
    }
}

fn read(path: &Path) -> Result<File, ConnectError> {
    let cannot = |source| ConnectError::File {
        action: "read",
        path: path.to_owned(),
        source,
    };
    match fs::read(path) {
        Ok(content) => serde_json::from_slice(&content).map_err(|error| cannot(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => Err(cannot(error)),
    }
}

fn write(path: &Path, file: &File) -> Result<(), ConnectError> {
    let writing = || {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut new = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut new, file)?;
        new.as_file().sync_all()?;
        new.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    writing().map_err(|source| ConnectError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// A fingerprint as people write it.
mod text {
    use deploy_spec::Fingerprint;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        fingerprint: &Option<Fingerprint>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match fingerprint {
            Some(fingerprint) => serializer.collect_str(fingerprint),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Fingerprint>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let parsed = text.map(|text| text.parse().map_err(D::Error::custom));
        parsed.transpose()
    }
}
