//! What a release consists of, from its layers in the cache, which come from the source where they
//! are missing or damaged. Called by the verbs that compare.

use std::{collections::HashSet, sync::Arc};

use deploy_spec::{Digest, Release};
use deployctl::{
    archive::{Described, Dialect, LayerSource, Layers, UnpackOptions},
    client::Progress,
};

use crate::{cache::Cache, deployer::chain, error::AgentError, record::Record, source::Source};

/// Returns how the layers of a release are understood, by whether it was imported from an image.
pub(crate) fn dialect(is_imported: bool) -> Dialect {
    match is_imported {
        true => Dialect::Image,
        false => Dialect::Own,
    }
}

/// A release as far as its content goes.
pub(crate) struct Content {
    id: Digest,
    layers: Vec<Layer>,
    dialect: Dialect,
}

struct Layer {
    /// `code:v01`.
    name: String,
    digest: Digest,
    size: Option<u64>,
    diff_id: Option<Digest>,
}

impl Content {
    /// Returns the content of a release that a source has.
    pub(crate) fn of(id: &Digest, release: &Release) -> Self {
        let layer = |layer: &deploy_spec::ReleaseLayer| Layer {
            name: layer.reference().to_string(),
            digest: layer.digest.clone(),
            size: Some(layer.size),
            diff_id: layer.diff_id.clone(),
        };
        Self {
            id: id.clone(),
            layers: release.layers.iter().map(layer).collect(),
            dialect: dialect(release.is_imported()),
        }
    }

    /// Returns the content of a release that is deployed.
    pub(crate) fn recorded(record: &Record) -> Self {
        let layer = |layer: &crate::record::LayerRecord| Layer {
            name: format!("{}:{}", layer.name, layer.version),
            digest: layer.digest.clone(),
            size: layer.size,
            diff_id: None,
        };
        Self {
            id: record.id.clone(),
            layers: record.layers.iter().map(layer).collect(),
            dialect: dialect(record.imported),
        }
    }

    /// Brings what is missing into the cache, reads all layers, and returns them with what they
    /// make. A layer that proves to be damaged is fetched again, once.
    ///
    /// # Errors
    /// [`AgentError::NoLayers`] where some are missing and there is no source;
    /// [`AgentError::Compare`]; [`AgentError::Source`].
    pub(crate) async fn describe<S: Source>(
        &self,
        cache: &Cache,
        source: Option<&S>,
        options: &UnpackOptions,
    ) -> Result<(Layers, Described), AgentError> {
        self.fetch(cache, source).await?;
        let first = self.read(cache, options).await;
        match (&first, source) {
            (Err(AgentError::Compare { source: error, .. }), Some(_))
                if error.is_wrong_content() =>
            {
                tracing::warn!("a layer in the cache is damaged: {}", chain(error));
                for layer in self.layers.iter().filter(|layer| error.is_of(&layer.name)) {
                    cache.discard(&layer.digest)?;
                }
                self.fetch(cache, source).await?;
                self.read(cache, options).await
            }
            _ => first,
        }
    }

    async fn fetch<S: Source>(&self, cache: &Cache, source: Option<&S>) -> Result<(), AgentError> {
        let mut known = HashSet::new();
        let missing = self
            .layers
            .iter()
            .filter(|layer| !cache.has(&layer.digest, layer.size) && known.insert(&layer.digest));
        let missing: Vec<_> = missing.collect();
        for layer in &missing {
            let (Some(source), Some(size)) = (source, layer.size) else {
                let names: Vec<_> = missing.iter().map(|layer| &*layer.name).collect();
                return Err(AgentError::NoLayers {
                    id: self.id.clone(),
                    layers: names.join(", "),
                });
            };
            cache
                .fetch(source, &layer.digest, size, &Progress::none())
                .await?;
        }
        Ok(())
    }

    async fn read(
        &self,
        cache: &Cache,
        options: &UnpackOptions,
    ) -> Result<(Layers, Described), AgentError> {
        let layer = |layer: &Layer| LayerSource {
            name: layer.name.clone(),
            path: cache.path(&layer.digest),
            growing: None,
            digest: layer.digest.clone(),
            size: layer.size,
            diff_id: layer.diff_id.clone(),
            dialect: self.dialect,
        };
        let layers: Vec<_> = self.layers.iter().map(layer).collect();
        let options = options.clone();
        let work = move || {
            let mut layers = Layers::open(&layers, Arc::clone(&options.stop))?;
            let described = layers.describe(&options)?;
            Ok((layers, described))
        };
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        done.map_err(|source| AgentError::Compare {
            id: self.id.clone(),
            source,
        })
    }
}
