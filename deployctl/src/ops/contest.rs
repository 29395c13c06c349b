//! The contest for the next number and the channel of a configuration, with as many others as
//! there are. Used by `release` alone; the module's documentation tells the rules.

use std::time::Duration;

use deploy_spec::{
    Channel, Descriptor, Digest, Outline, Reference, Release, ReleaseNumber, Tag, annotation,
    media_type, signature::Purpose,
};
use tokio::time::Instant;

use super::{
    OpsError,
    signatures::{Sealing, Signed},
};
use crate::client::{Condition, Content, Manifest, Progress, Put, Repository};

/// How far the history of a release is followed.
const HISTORY_MAX: u32 = 10_000;
/// How long a number must stay as it is where writes have no conditions: many times what a
/// request takes that decides to write.
const SETTLING: Duration = Duration::from_millis(500);

/// What a registry does about conditions of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    /// It honours them.
    Conditional,
    /// The last writer wins.
    Plain,
}

/// A release that has its number, and that the channel is or was.
pub(super) struct Won {
    pub(super) id: Digest,
    pub(super) release: Release,
    /// Its signature, where it was to be signed.
    pub(super) signed: Option<Signed>,
}

/// Who has a number.
enum Claim {
    Ours,
    Theirs(Manifest),
}

pub(super) struct Contest<'a> {
    repository: Repository,
    channel: &'a Channel,
    channel_tag: Reference,
    sealing: Option<Sealing>,
    writes: Option<Writes>,
    /// Another maker's release that stands between its number and the channel, and since when.
    pending: Option<(Digest, Instant)>,
}

impl<'a> Contest<'a> {
    pub(super) fn new(
        repository: Repository,
        channel: &'a Channel,
        sealing: Option<Sealing>,
    ) -> Self {
        Self {
            repository,
            channel,
            channel_tag: Reference::Tag(Tag::from(channel)),
            sealing,
            writes: None,
            pending: None,
        }
    }

    /// Writes a release under the first free number and moves the channel from its parent to
    /// it. Returns the release and its id; nothing where somebody else has moved the channel,
    /// or is about to.
    pub(super) async fn enter(
        &mut self,
        mut release: Release,
        first: ReleaseNumber,
    ) -> Result<Option<Won>, OpsError> {
        let parent = release.parent.clone();
        let mut number = first;
        loop {
            // Before anything is prepared that would be in vain.
            let tag = Reference::Tag(Tag::from(number));
            let claim = match self.repository.manifest(&tag).await? {
                Some(theirs) => Claim::Theirs(theirs),
                None => {
                    release.number = Some(number);
                    let ours = self.prepare(&release).await?;
                    let signed = self.seal(&ours, number).await?;
                    match self.claim(&tag, &ours).await? {
                        Claim::Ours => {
                            if self.conclude(number, &ours, parent.as_ref()).await? {
                                let id = ours.digest;
                                return Ok(Some(Won {
                                    id,
                                    release,
                                    signed,
                                }));
                            }
                            self.unseal(signed).await;
                            return Ok(None);
                        }
                        theirs => {
                            self.unseal(signed).await;
                            theirs
                        }
                    }
                }
            };
            if let Claim::Theirs(theirs) = claim
                && self.continues(&theirs, parent.as_ref())
            {
                self.help(&theirs, parent.as_ref()).await?;
                return Ok(None);
            }
            number = number.next();
        }
    }

    /// Waits before another round, at random, so that many clients do not go in step; a little
    /// longer with every lost round, and as long as a number settles where it has to.
    pub(super) async fn back_off(&self, round: u32) {
        let longest = match self.writes {
            Some(Writes::Plain) => SETTLING,
            _ => Duration::from_millis(10 << round.min(5)),
        };
        tokio::time::sleep(longest.mul_f64(rand::random_range(0.0..=1.0))).await;
    }

    /// Stores the image configuration, so that the manifest can be written at any moment.
    async fn prepare(&self, release: &Release) -> Result<Manifest, OpsError> {
        let documents = release.to_documents().map_err(|source| OpsError::Release {
            configuration: release.configuration.clone(),
            source,
        })?;
        let digest = Digest::sha256(&documents.config);
        let config = Content::Bytes(documents.config.into());
        self.repository
            .upload(&digest, &config, &Progress::none())
            .await?;
        Ok(Manifest {
            digest: Digest::sha256(&documents.manifest),
            media_type: media_type::IMAGE_MANIFEST.to_owned(),
            bytes: documents.manifest.into(),
        })
    }

    /// Signs a release before it has its tag: whoever may help to move the channel from then on
    /// must not move it to one that hosts refuse.
    async fn seal(
        &self,
        ours: &Manifest,
        number: ReleaseNumber,
    ) -> Result<Option<Signed>, OpsError> {
        let Some(sealing) = &self.sealing else {
            return Ok(None);
        };
        let size = ours.bytes.len() as u64;
        let subject = Descriptor::new(ours.media_type.clone(), ours.digest.clone(), size);
        let sealed = sealing.seal(&self.repository, &subject, Some(number), Purpose::Release);
        sealed.await.map(Some)
    }

    /// Removes the signature of a release that has lost. Best effort: what stays is a signature of
    /// a manifest that nobody has.
    async fn unseal(&self, signed: Option<Signed>) {
        let Some(Signed { id, .. }) = signed else {
            return;
        };
        let reference = Reference::Digest(id);
        if let Err(error) = self.repository.delete_manifest(&reference).await {
            tracing::debug!(signature = %reference, %error, "the signature of a release that lost the contest stays");
        }
    }

    /// Writes a release under a number, unless somebody else has it.
    async fn claim(&mut self, tag: &Reference, ours: &Manifest) -> Result<Claim, OpsError> {
        loop {
            if self.writes != Some(Writes::Conditional)
                && let Some(theirs) = self.repository.manifest(tag).await?
            {
                return Ok(Claim::Theirs(theirs));
            }
            let condition = match self.writes {
                Some(Writes::Conditional) => Condition::Absent,
                Some(Writes::Plain) => Condition::Always,
                None => Condition::Never,
            };
            let stored = self.put(tag, ours, &condition).await?;
            match (self.writes, stored) {
                (Some(Writes::Conditional), true) => return Ok(Claim::Ours),
                (Some(Writes::Conditional), false) => {}
                (None, false) => {
                    self.writes = Some(Writes::Conditional);
                    continue;
                }
                (Some(Writes::Plain), _) | (None, true) => {
                    self.writes = Some(Writes::Plain);
                    tokio::time::sleep(SETTLING).await;
                }
            }
            match self.repository.manifest(tag).await? {
                Some(found) if found.digest == ours.digest => return Ok(Claim::Ours),
                Some(theirs) => return Ok(Claim::Theirs(theirs)),
                // Given back in this moment.
                None => {}
            }
        }
    }

    /// Returns whether it was stored.
    async fn put(
        &self,
        tag: &Reference,
        manifest: &Manifest,
        condition: &Condition,
    ) -> Result<bool, OpsError> {
        let (media_type, bytes) = (&manifest.media_type, manifest.bytes.clone());
        let put = self
            .repository
            .put_manifest(tag, media_type, bytes, condition);
        Ok(put.await? == Put::Stored)
    }

    /// True for a release of our channel that was made of the one that the channel is.
    fn continues(&self, theirs: &Manifest, parent: Option<&Digest>) -> bool {
        let Some(facts) = Facts::of(theirs) else {
            return false;
        };
        facts.parent.as_ref() == parent && facts.channel.as_ref() == Some(self.channel)
    }

    /// Moves the channel for the maker of another release, who may have died in between: not
    /// on first sight, when it is about to do that itself, but on the next.
    async fn help(&mut self, theirs: &Manifest, parent: Option<&Digest>) -> Result<(), OpsError> {
        let since = match &self.pending {
            Some((digest, since)) if *digest == theirs.digest => *since,
            _ => {
                self.pending = Some((theirs.digest.clone(), Instant::now()));
                return Ok(());
            }
        };
        let writes = match self.writes {
            Some(writes) => writes,
            None => match self.repository.honours_conditions(theirs).await? {
                true => Writes::Conditional,
                false => Writes::Plain,
            },
        };
        self.writes = Some(writes);
        if writes == Writes::Conditional || since.elapsed() > SETTLING {
            self.move_channel(theirs, parent).await?;
        }
        Ok(())
    }

    /// Moves the channel to our release. Returns whether it is there, or was; what has lost is
    /// taken back.
    async fn conclude(
        &self,
        number: ReleaseNumber,
        ours: &Manifest,
        parent: Option<&Digest>,
    ) -> Result<bool, OpsError> {
        let moved = self.move_channel(ours, parent).await?;
        if moved && self.writes == Some(Writes::Conditional) {
            return Ok(true);
        }
        // Moved by a helper, already further on, or lost.
        if let Some(line) = self.find_in_channel(number).await? {
            if line.digest == ours.digest {
                return Ok(true);
            }
            self.give_back(number, ours, Some(&line)).await;
            return Ok(false);
        }
        self.give_back(number, ours, None).await;
        Ok(false)
    }

    /// Moves the channel from the parent to a release. Returns false where it was elsewhere.
    async fn move_channel(
        &self,
        release: &Manifest,
        parent: Option<&Digest>,
    ) -> Result<bool, OpsError> {
        if self.writes == Some(Writes::Plain) {
            let head = self.repository.manifest_head(&self.channel_tag).await?;
            if head.map(|head| head.digest).as_ref() != parent {
                return Ok(false);
            }
        }
        let condition = match parent {
            Some(parent) => Condition::Matches(parent.clone()),
            None => Condition::Absent,
        };
        self.put(&self.channel_tag, release, &condition).await
    }

    /// Returns the release with this number that the channel is or was made of.
    async fn find_in_channel(&self, number: ReleaseNumber) -> Result<Option<Manifest>, OpsError> {
        let mut reference = self.channel_tag.clone();
        for _ in 0..HISTORY_MAX {
            let Some(manifest) = self.repository.manifest(&reference).await? else {
                return Ok(None);
            };
            let Some(facts) = Facts::of(&manifest) else {
                return Ok(None);
            };
            match (facts.number, facts.parent) {
                (Some(found), _) if found == number => return Ok(Some(manifest)),
                // Numbers only grow along a line of descent.
                (Some(found), Some(parent)) if found > number => {
                    reference = Reference::Digest(parent);
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Gives a number back that we have and lost: to the release that the channel has under it,
    /// or to nobody. Best effort: a number that stays taken is passed over by the next maker.
    async fn give_back(&self, number: ReleaseNumber, ours: &Manifest, owner: Option<&Manifest>) {
        let tag = Reference::Tag(Tag::from(number));
        let giving_back = async {
            let head = self.repository.manifest_head(&tag).await?;
            if head.is_none_or(|head| head.digest != ours.digest) {
                return Ok(());
            }
            match owner {
                Some(owner) => {
                    let condition = Condition::Matches(ours.digest.clone());
                    self.put(&tag, owner, &condition).await?;
                }
                None => {
                    self.repository.delete_manifest(&tag).await?;
                }
            }
            Ok::<_, OpsError>(())
        };
        if let Err(error) = giving_back.await {
            tracing::debug!(%number, %error, "a release that lost the contest stays");
        }
    }
}

/// What a manifest says of its place in the line of releases.
struct Facts {
    number: Option<ReleaseNumber>,
    parent: Option<Digest>,
    channel: Option<Channel>,
}

impl Facts {
    fn of(manifest: &Manifest) -> Option<Self> {
        let outline = Outline::parse(None, &manifest.bytes).ok()?;
        let text = |key: &str| outline.annotations.get(key);
        Some(Self {
            number: text(annotation::VERSION).and_then(|text| text.parse().ok()),
            parent: text(annotation::PARENT).and_then(|text| text.parse().ok()),
            channel: text(annotation::CHANNEL).and_then(|text| text.parse().ok()),
        })
    }
}
