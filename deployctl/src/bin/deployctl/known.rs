//! What `login` remembers of registries, beside what it tells container clients: the fingerprint
//! that was trusted, and the file of the key that was used. No secret is in it.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use deploy_spec::Fingerprint;
use deployctl::client::Address;
use serde::{Deserialize, Serialize};

/// What is known of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// The address as it was given, with its scheme.
    pub(crate) address: String,
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    #[serde(default)]
    registries: BTreeMap<String, Known>,
}

/// Returns what is remembered of a registry.
pub(crate) fn recall(address: &Address) -> Result<Option<Known>> {
    Ok(all()?.remove(&address.authority()))
}

/// Returns everything that is remembered, by `host[:port]`.
pub(crate) fn all() -> Result<BTreeMap<String, Known>> {
    match path() {
        Some(path) => Ok(read(&path)?.registries),
        None => Ok(BTreeMap::new()),
    }
}

/// Remembers a registry, in place of what was remembered of it.
pub(crate) fn remember(address: &Address, known: Known) -> Result<()> {
    let path = path().context("there is no place to remember the registry\nhint: set HOME")?;
    let mut file = read(&path)?;
    file.registries.insert(address.authority(), known);
    write(&path, &file)
}

/// Forgets a registry, and returns whether anything was known of it.
pub(crate) fn forget(address: &Address) -> Result<bool> {
    let Some(path) = path() else {
        return Ok(false);
    };
    let mut file = read(&path)?;
    let had = file.registries.remove(&address.authority()).is_some();
    if had {
        write(&path, &file)?;
    }
    Ok(had)
}

/// As the XDG base directories have it.
fn path() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let directory = match set("XDG_CONFIG_HOME") {
        Some(directory) => PathBuf::from(directory),
        None => Path::new(&set("HOME")?).join(".config"),
    };
    Some(directory.join("deployctl/registries.json"))
}

fn read(path: &Path) -> Result<File> {
    let cannot = || format!("cannot read `{}`", path.display());
    match fs::read(path) {
        Ok(content) => serde_json::from_slice(&content).with_context(cannot),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => Err(error).with_context(cannot),
    }
}

fn write(path: &Path, file: &File) -> Result<()> {
    let cannot = || format!("cannot write `{}`", path.display());
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).with_context(cannot)?;
    let mut new = tempfile::NamedTempFile::new_in(directory).with_context(cannot)?;
    serde_json::to_writer_pretty(&mut new, file).with_context(cannot)?;
    new.as_file().sync_all().with_context(cannot)?;
    new.persist(path).with_context(cannot)?;
    Ok(())
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
