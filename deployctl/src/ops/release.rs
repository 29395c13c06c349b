//! Releases of a configuration: read from a channel, and made without locks as the module's
//! documentation tells.

use std::{collections::HashSet, time::Duration};

use deploy_spec::{
    Channel, ConfigurationName, Digest, Outline, Reference, Release, ReleaseLayer, ReleaseNumber,
    Tag, annotation, media_type, release::Image,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{OpsError, Project, version::PARALLEL};
use crate::{
    client::{Condition, Content, Manifest, Progress, Put, Repository},
    transfer,
};

/// The largest image configuration that is read.
const CONFIG_MAX: u64 = 16 * 1024 * 1024;
/// Every round has a winner, so that this many others at once can be outlasted.
const ROUNDS: u32 = 1000;
/// How far the history of a release is followed.
const HISTORY_MAX: u32 = 10_000;

/// A release as found under a tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its id: the digest of its manifest.
    pub id: Digest,
    /// What it says.
    pub release: Release,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What the channel was before, where there was one.
    pub before: Option<Shown>,
    /// What the channel is now: the same as before where nothing changed.
    pub now: Shown,
    /// True where a release was made.
    pub changed: bool,
}

/// What a release is to be made of.
pub(super) struct Draft {
    pub(super) layers: Vec<ReleaseLayer>,
    pub(super) image: Image,
    pub(super) reason: Option<String>,
}

impl Project {
    /// Returns the release that a tag of a configuration is; nothing where there is no such tag.
    pub(super) async fn find_release(
        &self,
        configuration: &ConfigurationName,
        tag: &Tag,
    ) -> Result<Option<Shown>, OpsError> {
        let repository = self.configuration(configuration);
        let Some(manifest) = repository.manifest(&Reference::Tag(tag.clone())).await? else {
            return Ok(None);
        };
        let failure = |source| OpsError::NotARelease {
            configuration: configuration.clone(),
            tag: tag.clone(),
            source,
        };
        let config = Release::config_of(&manifest.bytes).map_err(failure)?;
        let config = repository.blob_bytes(&config.digest, CONFIG_MAX).await?;
        let release = Release::parse(configuration.clone(), &manifest.bytes, &config);
        Ok(Some(Shown {
            id: manifest.digest,
            release: release.map_err(failure)?,
        }))
    }

    /// Makes a release of what `change` wants to have made of the channel's release; none where
    /// it wants nothing. Called anew whenever somebody else has moved the channel.
    pub(super) async fn make_release(
        &self,
        configuration: &ConfigurationName,
        channel: &Channel,
        mut change: impl FnMut(Option<&Shown>) -> Result<Option<Draft>, OpsError>,
    ) -> Result<Outcome, OpsError> {
        let maker = Maker {
            project: self,
            repository: self.configuration(configuration),
            configuration,
            channel,
            channel_tag: Tag::from(channel),
        };
        let mut present = HashSet::new();
        for round in 0..ROUNDS {
            if round > 0 {
                back_off(round).await;
            }
            let before = self.find_release(configuration, &maker.channel_tag).await?;
            let Some(draft) = change(before.as_ref())? else {
                let now = before.ok_or_else(|| OpsError::UnknownChannel {
                    configuration: configuration.clone(),
                    channel: channel.clone(),
                })?;
                return Ok(Outcome {
                    before: Some(now.clone()),
                    now,
                    changed: false,
                });
            };
            maker
                .bring_layers(before.as_ref(), &draft.layers, &mut present)
                .await?;
            if let Some(now) = maker.publish(before.as_ref(), draft).await? {
                return Ok(Outcome {
                    before,
                    now,
                    changed: true,
                });
            }
        }
        Err(OpsError::Contended {
            configuration: configuration.clone(),
            rounds: ROUNDS,
        })
    }
}

/// Keeps many clients from going in step; grows a little with every lost round.
async fn back_off(round: u32) {
    let longest = 10 << round.min(4);
    let milliseconds = rand::random_range(0..=longest);
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// One attempt after the other at a release of one configuration.
struct Maker<'a> {
    project: &'a Project,
    repository: Repository,
    configuration: &'a ConfigurationName,
    channel: &'a Channel,
    channel_tag: Tag,
}

impl Maker<'_> {
    /// Makes sure that the repository has the layers which the release before had not.
    async fn bring_layers(
        &self,
        before: Option<&Shown>,
        layers: &[ReleaseLayer],
        present: &mut HashSet<Digest>,
    ) -> Result<(), OpsError> {
        let kept = before.into_iter().flat_map(|shown| &shown.release.layers);
        present.extend(kept.map(|layer| layer.digest.clone()));
        let missing = layers
            .iter()
            .filter(|layer| !present.contains(&layer.digest));
        let brought: Vec<Digest> = stream::iter(missing)
            .map(|layer| async move {
                let from = self.project.component(&layer.component);
                let (digest, size) = (&layer.digest, layer.size);
                transfer::blob(digest, size, &from, &self.repository, &Progress::none()).await?;
                Ok::<_, OpsError>(digest.clone())
            })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        present.extend(brought);
        Ok(())
    }

    /// Writes the release and moves the channel to it; nothing where somebody else was faster.
    async fn publish(
        &self,
        before: Option<&Shown>,
        draft: Draft,
    ) -> Result<Option<Shown>, OpsError> {
        let parent = before.map(|shown| shown.id.clone());
        let mut release = Release {
            configuration: self.configuration.clone(),
            number: None,
            created: Some(self.project.now()),
            parent: parent.clone(),
            channel: Some(self.channel.clone()),
            author: self.project.author.clone(),
            reason: draft.reason,
            layers: draft.layers,
            image: draft.image,
        };
        let mut number = self.first_number(before).await?;
        loop {
            match self.taken(number).await? {
                Some(theirs) if self.continues(&theirs, parent.as_ref()) => {
                    self.move_channel(&theirs, parent.as_ref()).await?;
                    return Ok(None);
                }
                Some(_) => {
                    number = number.next();
                    continue;
                }
                None => {}
            }
            release.number = Some(number);
            let ours = self.write(number, &release).await?;
            let Some(ours) = ours else {
                // Taken in this moment: by whom?
                continue;
            };
            self.move_channel(&ours, parent.as_ref()).await?;
            if self.is_in_channel(&ours.digest, number).await? {
                return Ok(Some(Shown {
                    id: ours.digest,
                    release,
                }));
            }
            self.withdraw(number, &ours.digest).await;
            return Ok(None);
        }
    }

    async fn first_number(&self, before: Option<&Shown>) -> Result<ReleaseNumber, OpsError> {
        match before.map(|shown| shown.release.number) {
            None => Ok(ReleaseNumber::FIRST),
            Some(Some(number)) => Ok(number.next()),
            // An image that another client has put there: its releases are counted from the
            // highest number there is.
            Some(None) => {
                let tags = self.repository.tags().await?;
                let numbers = tags.iter().filter_map(|tag| tag.as_str().parse().ok());
                let last: Option<ReleaseNumber> = numbers.max();
                Ok(last.map_or(ReleaseNumber::FIRST, ReleaseNumber::next))
            }
        }
    }

    /// Returns the manifest that has this number already.
    async fn taken(&self, number: ReleaseNumber) -> Result<Option<Manifest>, OpsError> {
        let tag = Reference::Tag(Tag::from(number));
        if self.repository.manifest_head(&tag).await?.is_none() {
            return Ok(None);
        }
        Ok(self.repository.manifest(&tag).await?)
    }

    /// True for a release of our channel that was made of the one that the channel is.
    fn continues(&self, theirs: &Manifest, parent: Option<&Digest>) -> bool {
        let Ok(outline) = Outline::parse(None, &theirs.bytes) else {
            return false;
        };
        let text = |key: &str| outline.annotations.get(key).map(String::as_str);
        let parent = parent.map(Digest::to_string);
        text(annotation::PARENT) == parent.as_deref()
            && text(annotation::CHANNEL) == Some(self.channel.as_str())
    }

    /// Writes a release under its number; nothing where the number is taken.
    async fn write(
        &self,
        number: ReleaseNumber,
        release: &Release,
    ) -> Result<Option<Manifest>, OpsError> {
        let documents = release.to_documents().map_err(|source| OpsError::Release {
            configuration: self.configuration.clone(),
            source,
        })?;
        let digest = Digest::sha256(&documents.config);
        let config = Content::Bytes(documents.config.into());
        self.repository
            .upload(&digest, &config, &Progress::none())
            .await?;
        let ours = Manifest {
            digest: Digest::sha256(&documents.manifest),
            media_type: media_type::IMAGE_MANIFEST.to_owned(),
            bytes: documents.manifest.into(),
        };
        let tag = Reference::Tag(Tag::from(number));
        if self.put(&tag, &ours, &Condition::Absent).await? != Put::Stored {
            return Ok(None);
        }
        // Without conditional writes two makers can both be told that theirs is stored.
        let stored = self.repository.manifest_head(&tag).await?;
        Ok(stored
            .is_some_and(|head| head.digest == ours.digest)
            .then_some(ours))
    }

    /// Moves the channel from the parent to a release, unless it is elsewhere by now.
    async fn move_channel(
        &self,
        release: &Manifest,
        parent: Option<&Digest>,
    ) -> Result<(), OpsError> {
        let condition = match parent {
            Some(parent) => Condition::Matches(parent.clone()),
            None => Condition::Absent,
        };
        let tag = Reference::Tag(self.channel_tag.clone());
        self.put(&tag, release, &condition).await?;
        Ok(())
    }

    async fn put(
        &self,
        tag: &Reference,
        manifest: &Manifest,
        condition: &Condition,
    ) -> Result<Put, OpsError> {
        let (media_type, bytes) = (&manifest.media_type, manifest.bytes.clone());
        let put = self
            .repository
            .put_manifest(tag, media_type, bytes, condition);
        Ok(put.await?)
    }

    /// True where the channel is this release or a later one made of it: moved by us, by a
    /// helper, or already further on.
    async fn is_in_channel(&self, ours: &Digest, number: ReleaseNumber) -> Result<bool, OpsError> {
        let mut reference = Reference::Tag(self.channel_tag.clone());
        for _ in 0..HISTORY_MAX {
            let Some(manifest) = self.repository.manifest(&reference).await? else {
                return Ok(false);
            };
            if manifest.digest == *ours {
                return Ok(true);
            }
            let Ok(outline) = Outline::parse(None, &manifest.bytes) else {
                return Ok(false);
            };
            let text = |key: &str| outline.annotations.get(key);
            let found: Option<ReleaseNumber> =
                text(annotation::VERSION).and_then(|text| text.parse().ok());
            let parent: Option<Digest> =
                text(annotation::PARENT).and_then(|text| text.parse().ok());
            match (found, parent) {
                // Numbers only grow along a line of descent.
                (Some(found), Some(parent)) if found > number => {
                    reference = Reference::Digest(parent);
                }
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Takes a release back that lost, where it is still ours. Best effort: a number that stays
    /// taken is passed over by the next maker.
    async fn withdraw(&self, number: ReleaseNumber, ours: &Digest) {
        let tag = Reference::Tag(Tag::from(number));
        let head = self.repository.manifest_head(&tag).await;
        if head.is_ok_and(|head| head.is_some_and(|head| head.digest == *ours))
            && let Err(error) = self.repository.delete_manifest(&tag).await
        {
            tracing::debug!(%number, %error, "a release that lost the contest stays");
        }
    }
}
