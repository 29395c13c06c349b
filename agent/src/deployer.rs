//! Does what the machine decides, on one host: recover, fetch, stage, prepare, script, switch,
//! check, save, clean, undo. `runner` calls it, one work after the other.
//!
//! Every work is written to the journal before it begins and can be done again: after a crash
//! at any instruction the same works lead to the same end. The one that others notice is the
//! script, which is run again for a release unless the journal says that it had succeeded.

use std::{
    error::Error,
    fs, io,
    sync::{Arc, Mutex as Guarded, MutexGuard, PoisonError},
    time::Duration,
};

use deploy_spec::{ConfigurationName, Release, media_type::Compression};
use deployctl::{
    archive::{ArchiveError, LayerSource, UnpackOptions, unpack},
    report::Report,
};
use jiff::Timestamp;
use layers::Growers;
use tokio::{sync::Mutex, time::sleep};

use crate::{
    admission::Gate,
    cache::Cache,
    directory::{Directory, Lock, Request, Taken},
    error::AgentError,
    hooks::{Check, Script},
    image::ImageConfig,
    journal::{Entry, Journal, JournalStep},
    machine::{Id, Work},
    record::{Made, Record, Remembered},
    runner::{Executor, Outcome},
    source::Source,
    stop::Stop,
};

/// Image configurations are a few kilobytes; this is the limit of manifests.
pub(crate) const CONFIG_MAX: u64 = 4 << 20;
/// How often the agent asks for its turn while somebody else has it.
const BETWEEN_TURNS: Duration = Duration::from_millis(50);

pub(crate) mod admit;
mod commit;
mod layers;
mod recovery;
mod room;
mod scripts;
mod undo;

/// What does not change while the agent runs.
#[derive(Debug)]
pub struct Settings {
    /// The configuration.
    pub configuration: ConfigurationName,
    /// The channel, for the record.
    pub channel: String,
    /// What may refuse a release before anything is touched.
    pub prepare: Option<Script>,
    /// What switches the host.
    pub script: Script,
    /// What tells whether the host is well after that.
    pub check: Option<Check>,
    /// What signatures of releases are asked for, where some are.
    pub gate: Option<Gate>,
    /// How layers are unpacked; `stop` is the deployer's own.
    pub unpacking: UnpackOptions,
    /// How many trees of earlier releases stay after a success; all without a number.
    pub keep: Option<usize>,
    /// How many bytes stay free on the file systems of the cache and of the trees.
    pub reserve: u64,
    /// The time, for the journal and for the names of files that are set aside.
    pub clock: fn() -> Timestamp,
}

/// Deploys releases of one configuration in one directory.
pub struct Deployer<S> {
    source: Arc<S>,
    directory: Arc<Directory>,
    cache: Cache,
    settings: Settings,
    /// Read by the first work. Apart from the rest, so that it can be changed in the middle of
    /// a work; never held for longer than one change.
    journal: Guarded<Journal>,
    memory: Mutex<Memory>,
}

/// What one work leaves for the next.
#[derive(Default)]
struct Memory {
    /// The manifest that was seen last.
    manifest: Option<(Id, Vec<u8>)>,
    /// What it describes.
    candidate: Option<(Id, Release)>,
    /// What was wrong with a release that is to be undone.
    refusal: Option<(Id, String)>,
}

impl<S: Source> Deployer<S> {
    /// Returns the deployer. Reads and writes nothing yet.
    pub fn new(source: Arc<S>, directory: Arc<Directory>, settings: Settings) -> Self {
        let journal = Journal::new(directory.journal(), Entry::default());
        Self {
            cache: Cache::of(&directory),
            source,
            directory,
            settings,
            journal: Guarded::new(journal),
            memory: Mutex::default(),
        }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        // Whoever panicked left a whole entry.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the journal; it is on stable storage then.
    fn note(&self, change: impl FnOnce(&mut Entry)) -> Result<(), AgentError> {
        self.journal().write(change)
    }

    /// Waits until nobody else does something in the directory.
    async fn turn(&self, stop: &Stop) -> Result<Lock, AgentError> {
        let mut waits = false;
        loop {
            match self.directory.turn()? {
                Ok(turn) => return Ok(turn),
                Err(Taken(holder)) if !waits => {
                    tracing::info!(
                        pid = holder,
                        "waiting for what somebody else does in the directory"
                    );
                    waits = true;
                }
                Err(_) => {}
            }
            tokio::select! {
                () = sleep(BETWEEN_TURNS) => {}
                () = stop.stopped() => return Err(AgentError::Interrupted),
            }
        }
    }

    /// Returns what is known of a release that is being deployed, or was.
    fn remembered(&self, id: &Id) -> Remembered {
        let journal = self.journal();
        let entry = journal.entry();
        let known = [&entry.release, &entry.deployed].into_iter().flatten();
        let known = known
            .chain(&entry.history)
            .find(|known| known.record.id == *id);
        known.cloned().unwrap_or_else(|| {
            let state = fs::read(self.directory.state());
            let state = state.and_then(|bytes| {
                serde_json::from_slice::<Record>(&bytes).map_err(io::Error::other)
            });
            let record = state.ok().filter(|record| record.id == *id);
            let bare = || Record::bare(id, self.settings.configuration.as_ref());
            record.unwrap_or_else(bare).into()
        })
    }

    /// Brings everything that the release needs into the cache, and makes its tree meanwhile where
    /// it can.
    async fn fetch(&self, memory: &mut Memory, id: &Id, stop: &Stop) -> Result<(), AgentError> {
        if self.fetch_nothing(memory, id)? {
            return Ok(());
        }
        let admitted = tokio::select! {
            admitted = self.admit(memory, id) => admitted?,
            () = stop.stopped() => return Err(AgentError::Interrupted),
        };
        let release = tokio::select! {
            release = self.describe(memory, id) => release?,
            () = stop.stopped() => return Err(AgentError::Interrupted),
        };
        // A tree that is there may have been made by other flags.
        let made = match self.directory.has_tree(id) {
            true => self.remembered(id).made,
            false => Some(Made::by(&self.settings.unpacking)),
        };
        let vouched = admitted.as_ref().map(|admitted| admitted.vouched.clone());
        let record = Record {
            signed: vouched,
            ..Record::of(id, &release, &self.settings.channel)
        };
        let remembered = Remembered {
            environment: release.image.environment(),
            image: Some(ImageConfig::of(&release.image)),
            made,
            ..record.into()
        };
        self.note(|entry| {
            if let Some(admitted) = admitted {
                entry.accepted = Some(admitted.accepted);
            }
            entry.refused = None;
            entry.step = JournalStep::Fetch;
            entry.release = Some(remembered);
            entry.wanted = entry.wanted.take().filter(|wanted| wanted == id);
        })?;
        if self.directory.has_tree(id) {
            tracing::debug!(release.id = %id, "its tree is there already");
            return Ok(());
        }
        self.room_to_fetch(id, &release)?;
        match self.room_for_both(&release)? {
            true => self.fetch_and_unpack(id, &release, stop).await,
            false => self.fetch_layers(&release, Growers::new(), stop).await,
        }
    }

    /// Whether the release was deployed before and everything of it is here, while the channel
    /// has another one.
    fn fetch_nothing(&self, memory: &Memory, id: &Id) -> Result<bool, AgentError> {
        let seen = memory.manifest.as_ref().is_some_and(|(seen, _)| seen == id);
        if seen || !self.directory.has_tree(id) {
            return Ok(false);
        }
        let remembered = self.remembered(id);
        self.note(|entry| {
            entry.step = JournalStep::Fetch;
            entry.release = Some(remembered);
        })?;
        Ok(true)
    }

    /// Returns what the manifest of `id` describes; it was seen before.
    async fn describe(&self, memory: &mut Memory, id: &Id) -> Result<Release, AgentError> {
        if let Some((known, release)) = &memory.candidate
            && known == id
        {
            return Ok(release.clone());
        }
        let failed = |source| AgentError::Release {
            id: id.clone(),
            source,
        };
        let Some((_, manifest)) = memory.manifest.as_ref().filter(|(seen, _)| seen == id) else {
            // The machine deploys nothing that it has not seen, but for what was there before.
            return Err(AgentError::NoWayBack { id: id.clone() });
        };
        let descriptor = Release::config_of(manifest).map_err(failed)?;
        let config = self.source.document(&descriptor, CONFIG_MAX).await?;
        let release = Release::parse(self.settings.configuration.clone(), manifest, &config)
            .map_err(failed)?;
        for layer in &release.layers {
            if Compression::of_layer(&layer.media_type).is_none() {
                tracing::debug!(layer = %layer.reference(), layer.media_type, "media type of no layer; its bytes decide");
            }
        }
        memory.candidate = Some((id.clone(), release.clone()));
        Ok(release)
    }

    /// Makes the tree of the release, where it was not made while its layers came, and publishes
    /// it. A layer in the cache that proves to be damaged is fetched again, once.
    async fn stage(&self, memory: &mut Memory, id: &Id, stop: &Stop) -> Result<(), AgentError> {
        self.note(|entry| entry.step = JournalStep::Stage)?;
        if self.directory.has_tree(id) {
            return Ok(());
        }
        let release = self.describe(memory, id).await?;
        self.room_to_unpack(id, &release, stop).await?;
        let layers = self.layer_sources(&release);
        let result = match self.unpack(id, layers, stop).await {
            Err(AgentError::Unpack { source, .. }) if source.is_wrong_content() => {
                tracing::warn!(
                    "a layer in the cache is damaged and is fetched again: {}",
                    chain(&source)
                );
                self.discard(&source, &release)?;
                self.fetch_layers(&release, Growers::new(), stop).await?;
                self.unpack(id, self.layer_sources(&release), stop).await
            }
            other => other,
        };
        if let Err(error) = &result {
            self.make_room(error, &release);
        }
        result
    }

    /// Makes the tree of a release and publishes it.
    async fn unpack(
        &self,
        id: &Id,
        layers: Vec<LayerSource>,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        let options = self.settings.unpacking.clone();
        let directory = Arc::clone(&self.directory);
        let id = id.clone();
        let work = move |stop: Stop| {
            let earlier = directory.current().filter(|current| *current != id);
            let options = UnpackOptions {
                stop: stop.flag(),
                earlier: earlier.map(|current| directory.tree(&current)),
                ..options
            };
            let staging = directory.create_staging(&id)?;
            let unpacked = unpack(&layers, &staging, &options).map_err(|source| match source {
                ArchiveError::Interrupted => AgentError::Interrupted,
                source => AgentError::Unpack {
                    id: id.clone(),
                    source,
                },
            });
            let published = unpacked.and_then(|unpacked| {
                directory.publish(&staging, &id)?;
                Ok(unpacked)
            });
            let unpacked = published.inspect_err(|_| {
                // Why there is no tree is what counts; the next attempt begins with this as well.
                if let Err(error) = directory.remove_staging() {
                    tracing::warn!("cannot remove what was staged: {}", chain(&error));
                }
            })?;
            tracing::info!(
                release.id = %id,
                files = unpacked.files,
                directories = unpacked.directories,
                links = unpacked.hard_links + unpacked.symlinks,
                size_bytes = unpacked.bytes,
                taken_over_bytes = unpacked.taken_over,
                linked_files = unpacked.linked,
                "tree is complete"
            );
            if unpacked.left_out > 0 {
                tracing::warn!(
                    release.id = %id,
                    "devices and named pipes of the image were left out: {}",
                    unpacked.left_out
                );
            }
            Ok(())
        };
        self.while_there_is_room(stop, work).await
    }

    fn discard(&self, error: &ArchiveError, release: &Release) -> Result<(), AgentError> {
        let ArchiveError::Layer { layer: name, .. } = error else {
            return Ok(());
        };
        let damaged = release
            .layers
            .iter()
            .filter(|layer| layer.reference().to_string() == *name);
        damaged
            .map(|layer| &layer.digest)
            .try_for_each(|digest| self.cache.discard(digest))
    }

    /// On a full disk, gives up what is cached and not needed for this release: the next
    /// attempt shall not fail for the sake of yesterday's layers.
    fn make_room(&self, error: &AgentError, release: &Release) {
        if error.is_storage_full() {
            let needed: Vec<_> = release.layers.iter().map(|layer| &layer.digest).collect();
            if let Err(error) = self.cache.remove_but(&needed) {
                tracing::warn!("cannot clean the cache: {}", chain(&error));
            }
        }
    }
}

impl<S: Source> Executor for Deployer<S> {
    async fn seen(&self, id: Id, manifest: Vec<u8>) {
        self.seen_instead(&id);
        self.memory.lock().await.manifest = Some((id, manifest));
    }

    async fn execute(&self, work: Work, stop: Stop) -> Result<Outcome, AgentError> {
        let mut memory = self.memory.lock().await;
        let memory = &mut *memory;
        let _turn = self.turn(&stop).await?;
        match work {
            Work::Recover => return self.recover().map(Outcome::Recovered),
            Work::Fetch(id) => self.fetch(memory, &id, &stop).await?,
            Work::Stage(id) => self.stage(memory, &id, &stop).await?,
            Work::Prepare { new, old } => self.prepare(&new, old.as_ref(), &stop).await?,
            Work::Script { new, old } => {
                self.run_script(memory, &new, old.as_ref(), &stop).await?;
            }
            Work::Switch(id) => self.switch(&id)?,
            Work::Check(id) => self.check(memory, &id, &stop).await?,
            Work::Save(id) => self.save(&id)?,
            Work::Clean(id) => self.clean(&id)?,
            Work::Undo { failed, back, bad } => {
                self.undo(memory, &failed, back.as_ref(), bad, &stop)
                    .await?;
            }
        }
        Ok(Outcome::Done)
    }

    async fn why_bad(&self, id: &Id) -> Option<String> {
        let journal = self.journal();
        let bad = journal.entry().bad.iter().find(|bad| bad.id == *id)?;
        Some(format!(
            "{} failed at {:.0}: {}",
            bad.name(),
            bad.when,
            bad.why
        ))
    }

    async fn forgive(&self) -> Result<(), AgentError> {
        self.note(|entry| entry.bad.clear())?;
        self.directory.answer(Request::Retry)
    }

    fn is_asked(&self, request: Request) -> bool {
        self.directory.is_asked(request)
    }

    async fn go_back(&self) -> Result<Id, AgentError> {
        self.note_wanted()
    }
}

/// Returns a text as one line of the log, hints and all.
pub(crate) fn one_line(text: &str) -> String {
    text.replace('\n', "; ")
}

/// Returns an error with its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    one_line(&Report::new(error).to_string())
}

#[cfg(test)]
mod tests;
