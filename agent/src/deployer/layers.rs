//! Layers on their way into the cache, several at once, and unpacked while they come. Only
//! `deployer` calls it.

use std::collections::{HashMap, HashSet};

use deploy_spec::{Digest, Release, ReleaseLayer};
use deployctl::{archive::Grower, client::Progress};
use futures::stream::{StreamExt as _, TryStreamExt as _};

use super::{Deployer, chain};
use crate::{error::AgentError, machine::Id, source::Source, stop::Stop};

/// Layers that come at the same time: one that is far away does not keep the others waiting.
const AT_ONCE: usize = 4;

/// What tells of layers that they grow.
pub(super) type Growers = HashMap<Digest, Grower>;

impl<S: Source> Deployer<S> {
    /// Brings every layer of the release into the cache, and makes its tree of them while they come.
    ///
    /// Whatever the unpacking comes to, it is what the layers come to that counts: where they are
    /// there and the tree is not, [`Deployer::stage`] makes it, and finds what is wrong with it.
    pub(super) async fn fetch_and_unpack(
        &self,
        id: &Id,
        release: &Release,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        let mut growers = Growers::new();
        let mut growing = HashMap::new();
        for layer in self.distinct(release) {
            if !self.cache.has(&layer.digest, Some(layer.size)) {
                let (file, grower) = self.cache.begin(&layer.digest)?;
                growing.insert(&layer.digest, file);
                growers.insert(layer.digest.clone(), grower);
            }
        }
        if growers.is_empty() {
            return Ok(());
        }
        let mut sources = self.layer_sources(release);
        for source in &mut sources {
            source.growing = growing.get(&source.digest).cloned();
        }
        let in_vain = Stop::default();
        let fetching = async {
            let fetched = self.fetch_layers(release, growers, stop).await;
            if fetched.is_err() {
                in_vain.stop();
            }
            fetched
        };
        let unpacking = async {
            tokio::select! {
                unpacked = self.unpack(id, sources, &in_vain) => unpacked,
                never = in_vain.follow(stop) => never,
            }
        };
        let (fetched, unpacked) = tokio::join!(fetching, unpacking);
        fetched?;
        match unpacked {
            Err(AgentError::Interrupted) if stop.is_stopped() => Err(AgentError::Interrupted),
            Err(error) => {
                tracing::debug!(release.id = %id, "not unpacked while it came: {}", chain(&error));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Brings every layer of the release into the cache. Where one fails the others end too; what
    /// came of them is there the next time.
    pub(super) async fn fetch_layers(
        &self,
        release: &Release,
        mut growers: Growers,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        let fetches: Vec<_> = (self.distinct(release))
            .map(|layer| {
                let grower = growers.remove(&layer.digest);
                let progress = grower.map_or_else(Progress::none, |grower| {
                    Progress::new(move |_| grower.grew())
                });
                self.fetch_layer(layer, progress)
            })
            .collect();
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

    async fn fetch_layer(
        &self,
        layer: &ReleaseLayer,
        progress: Progress,
    ) -> Result<(), AgentError> {
        let name = layer.reference();
        let fetched = self
            .cache
            .fetch(&*self.source, &layer.digest, layer.size, &progress)
            .await?;
        if fetched {
            tracing::info!(layer = %name, blob.digest = %layer.digest, size_bytes = layer.size, "layer fetched");
        } else {
            tracing::debug!(layer = %name, blob.digest = %layer.digest, "layer is in the cache");
        }
        Ok(())
    }
}
