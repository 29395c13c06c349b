//! Layers on their way into the cache, several at once. Only `deployer` calls it.

use std::collections::HashSet;

use deploy_spec::{Release, ReleaseLayer};
use futures::stream::{StreamExt as _, TryStreamExt as _};

use super::Deployer;
use crate::{error::AgentError, source::Source, stop::Stop};

/// Layers that come at the same time: one that is far away does not keep the others waiting.
const AT_ONCE: usize = 4;

impl<S: Source> Deployer<S> {
    /// Brings every layer of the release into the cache. Where one fails the others end too; what
    /// came of them is there the next time.
    pub(super) async fn fetch_layers(
        &self,
        release: &Release,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        let distinct = self.distinct(release);
        let fetches: Vec<_> = distinct.map(|layer| self.fetch_layer(layer)).collect();
        let fetching = futures::stream::iter(fetches)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>();
        let fetched = tokio::select! {
            fetched = fetching => fetched,
            () = stop.stopped() => Err(AgentError::Interrupted),
            lack = self.shortage() => Err(lack),
        };
        if let Err(error) = &fetched {
            self.make_room(error, release);
        }
        fetched
    }

    /// Returns the layers of the release, each blob once: two layers may be one, which has one
    /// place.
    pub(super) fn distinct<'a>(
        &self,
        release: &'a Release,
    ) -> impl Iterator<Item = &'a ReleaseLayer> + use<'a, S> {
        let mut known = HashSet::new();
        (release.layers.iter()).filter(move |layer| known.insert(&layer.digest))
    }

    async fn fetch_layer(&self, layer: &ReleaseLayer) -> Result<(), AgentError> {
        let name = layer.reference();
        let fetched = self
            .cache
            .fetch(&*self.source, &layer.digest, layer.size)
            .await?;
        if fetched {
            tracing::info!(layer = %name, blob.digest = %layer.digest, size_bytes = layer.size, "layer fetched");
        } else {
            tracing::debug!(layer = %name, blob.digest = %layer.digest, "layer is in the cache");
        }
        Ok(())
    }
}
