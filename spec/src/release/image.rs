//! The image configuration of a release. Used by `release`, and by importers, which keep what
//! an image says.

use serde_json::{Map, Value, json};

use super::ReleaseError;
use crate::digest::Digest;

/// An image configuration without what a release says itself (`created`, `rootfs`,
/// `history`), kept to the letter: a configuration imported from an image keeps its
/// entry point, user, labels and whatever else there is.
#[derive(Clone, Debug, PartialEq)]
pub struct Image(Map<String, Value>);

/// The properties of an image configuration that every release writes anew.
const WRITTEN_ANEW: [&str; 3] = ["created", "rootfs", "history"];

impl Image {
    /// Returns the configuration of an image for this platform that says nothing else;
    /// `architecture` and `os` are Go's names, such as `amd64` and `linux`.
    pub fn new(architecture: &str, os: &str) -> Self {
        let mut map = Map::new();
        map.insert("architecture".into(), architecture.into());
        map.insert("os".into(), os.into());
        Self(map)
    }

    /// Returns what an image configuration says beside its layers, and the digests of the
    /// uncompressed layers, lowest first; none where it lists none.
    ///
    /// # Errors
    /// [`ReleaseError::Config`].
    pub fn parse(config: &[u8]) -> Result<(Self, Vec<Digest>), ReleaseError> {
        let mut map: Map<String, Value> =
            serde_json::from_slice(config).map_err(ReleaseError::Config)?;
        let diff_ids = map
            .get("rootfs")
            .and_then(|rootfs| rootfs.get("diff_ids"))
            .map(|diff_ids| serde_json::from_value(diff_ids.clone()))
            .transpose()
            .map_err(ReleaseError::Config)?
            .unwrap_or_default();
        for key in WRITTEN_ANEW {
            map.remove(key);
        }
        Ok((Self(map), diff_ids))
    }

    /// Returns the properties of the image configuration, for whoever needs more than this
    /// type offers (`config.Entrypoint`, `config.User`, …).
    pub fn properties(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Returns the environment, `config.Env`, in its order; entries without `=` and values
    /// that are no texts are passed over.
    pub fn environment(&self) -> Vec<(String, String)> {
        let entries = self.0.get("config").and_then(|config| config.get("Env"));
        let entries = entries.and_then(Value::as_array).into_iter().flatten();
        entries
            .filter_map(|entry| entry.as_str()?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Replaces the environment.
    pub fn set_environment(&mut self, environment: &[(String, String)]) {
        let entries = environment
            .iter()
            .map(|(name, value)| Value::from(format!("{name}={value}")))
            .collect();
        let config = self.0.entry("config").or_insert_with(|| json!({}));
        if !config.is_object() {
            *config = json!({});
        }
        config["Env"] = Value::Array(entries);
    }
}
