//! Releases of a configuration: read from a channel, and made without locks as the module's
//! documentation tells.

use std::collections::{BTreeMap, HashSet};

use deploy_spec::{
    Channel, ConfigurationName, Digest, Reference, Release, ReleaseLayer, ReleaseNumber, Tag,
    release::Image, signature::Purpose,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    OpsError, Project, ReleaseName, Signed,
    contest::{Contest, Won},
    version::PARALLEL,
};
use crate::{client::Progress, transfer};

/// The largest image configuration that is read.
const CONFIG_MAX: u64 = 16 * 1024 * 1024;
/// Every round has a winner, so that this many others at once can be outlasted.
const ROUNDS: u32 = 1000;

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
    /// The signature of what the channel is now, where it was to be signed.
    pub signed: Option<Signed>,
}

/// What a release is to be made of.
pub(super) struct Draft {
    pub(super) layers: Vec<ReleaseLayer>,
    pub(super) image: Image,
    pub(super) annotations: BTreeMap<String, String>,
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
        let repository = self.configuration(configuration);
        let mut contest = Contest::new(repository, channel, self.sealing());
        let tag = Tag::from(channel);
        let mut present = HashSet::new();
        for round in 0..ROUNDS {
            if round > 0 {
                contest.back_off(round).await;
            }
            let before = self.find_release(configuration, &tag).await?;
            let Some(draft) = change(before.as_ref())? else {
                let now = before.ok_or_else(|| OpsError::UnknownChannel {
                    configuration: configuration.clone(),
                    channel: channel.clone(),
                })?;
                let signed = match &self.signer {
                    Some(signer) => {
                        let name = ReleaseName::Id(now.id.clone());
                        let purpose = Purpose::Release;
                        let signing =
                            self.sign_release(configuration, &name, channel, purpose, signer);
                        Some(signing.await?)
                    }
                    None => None,
                };
                return Ok(Outcome {
                    before: Some(now.clone()),
                    now,
                    changed: false,
                    signed,
                });
            };
            self.bring_layers(before.as_ref(), &draft.layers, configuration, &mut present)
                .await?;
            let won = {
                let parent = before.as_ref().map(|shown| shown.id.clone());
                let release = self.drafted(configuration, channel, parent, draft);
                let first = self.first_number(before.as_ref(), configuration).await?;
                match contest.enter(release, first).await? {
                    Some(won) => won,
                    None => continue,
                }
            };
            let Won {
                id,
                release,
                signed,
            } = won;
            return Ok(Outcome {
                before,
                now: Shown { id, release },
                changed: true,
                signed,
            });
        }
        Err(OpsError::Contended {
            configuration: configuration.clone(),
            rounds: ROUNDS,
        })
    }

    fn drafted(
        &self,
        configuration: &ConfigurationName,
        channel: &Channel,
        parent: Option<Digest>,
        draft: Draft,
    ) -> Release {
        Release {
            configuration: configuration.clone(),
            number: None,
            created: Some(self.now()),
            parent,
            channel: Some(channel.clone()),
            author: self.author.clone(),
            reason: draft.reason,
            layers: draft.layers,
            image: draft.image,
            annotations: draft.annotations,
        }
    }

    /// Makes sure that the configuration's repository has the layers which the release before
    /// had not.
    async fn bring_layers(
        &self,
        before: Option<&Shown>,
        layers: &[ReleaseLayer],
        configuration: &ConfigurationName,
        present: &mut HashSet<Digest>,
    ) -> Result<(), OpsError> {
        let kept = before.into_iter().flat_map(|shown| &shown.release.layers);
        present.extend(kept.map(|layer| layer.digest.clone()));
        let mut missing = Vec::new();
        for layer in layers {
            if !present.contains(&layer.digest) {
                let from = self.component(&layer.component);
                missing.push((from, layer.digest.clone(), layer.size));
            }
        }
        let target = &self.configuration(configuration);
        let brought: Vec<Digest> = stream::iter(missing)
            .map(|(from, digest, size)| async move {
                transfer::blob(&digest, size, &from, target, &Progress::none()).await?;
                Ok::<_, OpsError>(digest)
            })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        present.extend(brought);
        Ok(())
    }

    async fn first_number(
        &self,
        before: Option<&Shown>,
        configuration: &ConfigurationName,
    ) -> Result<ReleaseNumber, OpsError> {
        match before.map(|shown| shown.release.number) {
            None => Ok(ReleaseNumber::FIRST),
            Some(Some(number)) => Ok(number.next()),
            // An image that another client has put there: its releases are counted from the
            // highest number there is.
            Some(None) => {
                let tags = self.configuration(configuration).tags().await?;
                let numbers = tags.iter().filter_map(|tag| tag.as_str().parse().ok());
                let last: Option<ReleaseNumber> = numbers.max();
                Ok(last.map_or(ReleaseNumber::FIRST, ReleaseNumber::next))
            }
        }
    }
}
