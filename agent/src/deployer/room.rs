//! Room for a release: asked for before its first byte comes and before it is unpacked, watched
//! while either goes on. Only `deployer` calls it.

use std::time::Duration;

use deploy_spec::{Digest, Release};
use deployctl::archive::{LayerSource, Layers};
use tokio::time::sleep;

use super::Deployer;
use crate::{
    content::dialect,
    error::AgentError,
    room::{Need, NoRoom, Room},
    source::Source,
    stop::Stop,
};

/// How often the reserve is looked at while something is written.
const LOOKS: Duration = Duration::from_millis(250);

impl<S: Source> Deployer<S> {
    fn room(&self) -> Result<Room, AgentError> {
        let (cache, trees) = (self.directory.cache(), self.directory.unpacked());
        Room::look(&cache, &trees, self.settings.reserve)
    }

    /// Makes sure that the release fits before anything of it is fetched, as far as its manifest
    /// tells: what it says to be unpacked, or a guess that is rather too small. Layers of other
    /// releases go where they are in the way.
    ///
    /// # Errors
    /// [`AgentError::NoRoom`].
    pub(super) fn room_to_fetch(&self, id: &Digest, release: &Release) -> Result<(), AgentError> {
        let (layers, tree) = (self.to_come(release), Need::at_least(release));
        self.fits(id, release, &|room| room.check(layers, tree))
    }

    /// Whether it is plain from the sizes alone that the layers and the tree fit.
    pub(super) fn room_for_both(&self, release: &Release) -> Result<bool, AgentError> {
        let (layers, tree) = (self.to_come(release), Need::at_most(release));
        Ok(self.room()?.check(layers, tree).is_ok())
    }

    /// Returns what the layers take that are not in the cache.
    fn to_come(&self, release: &Release) -> Need {
        let mut layers = Need::default();
        for layer in self.distinct(release) {
            if let Some(rest) = self.cache.missing(&layer.digest, layer.size) {
                layers.fetched = layers.fetched.saturating_add(rest);
                layers.inodes += 1;
            }
        }
        layers
    }

    /// Makes sure that the tree fits before anything of it is written: exactly, by a plan of it,
    /// where it is not plain from the sizes alone.
    ///
    /// # Errors
    /// [`AgentError::NoRoom`], [`AgentError::Interrupted`].
    pub(super) async fn room_to_unpack(
        &self,
        id: &Digest,
        release: &Release,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        let nothing = Need::default();
        let room = self.room()?;
        if room.check(nothing, Need::at_most(release)).is_ok() {
            return Ok(());
        }
        let sources = self.layer_sources(release);
        let (limits, flag) = (self.settings.unpacking.limits.clone(), stop.flag());
        let plan = move || Layers::open(&sources, flag)?.plan(&limits);
        let planned = tokio::task::spawn_blocking(plan)
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        if stop.is_stopped() {
            return Err(AgentError::Interrupted);
        }
        // Whatever is wrong with a layer is found and said when it is unpacked.
        let Ok(plan) = planned else { return Ok(()) };
        let tree = room.need_of(&plan);
        tracing::debug!(release.id = %id, ?tree, "planned, as room is short");
        self.fits(id, release, &|room| room.check(nothing, tree))
    }

    /// Asks once more, with other releases' layers gone, where the answer is no.
    fn fits(
        &self,
        id: &Digest,
        release: &Release,
        check: &dyn Fn(&Room) -> Result<(), NoRoom>,
    ) -> Result<(), AgentError> {
        let failed = |lack: NoRoom| AgentError::NoRoom(Box::new(lack.of(id)));
        let Err(lack) = check(&self.room()?) else {
            return Ok(());
        };
        self.make_room(&failed(lack), release);
        check(&self.room()?).map_err(failed)
    }

    /// Returns when what was to stay free is being used up, by whomever.
    pub(super) async fn shortage(&self) -> AgentError {
        loop {
            sleep(LOOKS).await;
            // A directory that is gone is noticed by whoever writes to it.
            if let Ok(room) = self.room()
                && let Err(lack) = room.check_reserve()
            {
                return AgentError::NoRoom(Box::new(lack));
            }
        }
    }

    /// Does what blocks with a wish to end of its own, uttered when `stop` is or when the room
    /// that was to stay free is being used up.
    pub(super) async fn while_there_is_room<T: Send + 'static>(
        &self,
        stop: &Stop,
        work: impl FnOnce(Stop) -> Result<T, AgentError> + Send + 'static,
    ) -> Result<T, AgentError> {
        let own = Stop::default();
        let told = own.clone();
        let mut working = tokio::task::spawn_blocking(move || work(told));
        let lack = tokio::select! {
            // What is done is done.
            biased;
            done = &mut working => return joined(done),
            () = stop.stopped() => None,
            lack = self.shortage() => Some(lack),
        };
        own.stop();
        match (joined(working.await), lack) {
            (Err(AgentError::Interrupted), Some(lack)) => Err(lack),
            (done, _) => done,
        }
    }

    pub(super) fn layer_sources(&self, release: &Release) -> Vec<LayerSource> {
        let source = |layer: &deploy_spec::ReleaseLayer| LayerSource {
            name: layer.reference().to_string(),
            path: self.cache.path(&layer.digest),
            growing: None,
            digest: layer.digest.clone(),
            size: Some(layer.size),
            diff_id: layer.diff_id.clone(),
            dialect: dialect(release.is_imported()),
        };
        release.layers.iter().map(source).collect()
    }
}

fn joined<T>(done: Result<Result<T, AgentError>, tokio::task::JoinError>) -> Result<T, AgentError> {
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
