//! Releases are signed, by whoever makes them or later, and their signatures looked at.

use std::{fmt, str::FromStr};

use deploy_spec::{
    Channel, ConfigurationName, Descriptor, Digest, Fingerprint, Outline, Reference, ReleaseNumber,
    Tag, annotation,
    signature::{NAMESPACE, Purpose, Signature, Statement},
    time::whole_microseconds,
};
use jiff::Timestamp;

use super::{OpsError, Project};
use crate::{
    client::{Manifest, Repository},
    signing::{self, AllowedSigners, Checked, Question},
    ssh::Signer,
};

/// A release of a configuration, by one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseName {
    /// What a channel is.
    Channel(Channel),
    /// By its number.
    Number(ReleaseNumber),
    /// By its id.
    Id(Digest),
}

/// A text that names no release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is neither the number of a release, as `v3`, nor its id, as `sha256:…`", .0.escape_debug())]
pub struct ReleaseNameError(String);

impl FromStr for ReleaseName {
    type Err = ReleaseNameError;

    /// `v3`, or `sha256:…`. Channels are named elsewhere.
    fn from_str(text: &str) -> Result<Self, ReleaseNameError> {
        let number = text.parse().map(Self::Number).ok();
        let id = || text.parse().map(Self::Id).ok();
        number
            .or_else(id)
            .ok_or_else(|| ReleaseNameError(text.to_owned()))
    }
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(channel) => channel.fmt(formatter),
            Self::Number(number) => number.fmt(formatter),
            Self::Id(id) => id.fmt(formatter),
        }
    }
}

impl From<&ReleaseName> for Reference {
    fn from(name: &ReleaseName) -> Self {
        match name {
            ReleaseName::Channel(channel) => Self::Tag(Tag::from(channel)),
            ReleaseName::Number(number) => Self::Tag(Tag::from(*number)),
            ReleaseName::Id(id) => Self::Digest(id.clone()),
        }
    }
}

/// A signature that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The digest of the signature's manifest.
    pub id: Digest,
    /// What was signed.
    pub statement: Statement,
    /// By which key.
    pub fingerprint: Fingerprint,
}

/// The signatures of a release.
#[derive(Debug)]
pub struct Signatures {
    /// The release.
    pub release: Digest,
    /// Its number, where it has one.
    pub number: Option<ReleaseNumber>,
    /// Each with the digest of its manifest.
    pub signatures: Vec<(Digest, Checked)>,
}

/// Who signs, by which clock.
#[derive(Clone, Debug)]
pub(super) struct Sealing {
    pub(super) signer: Signer,
    pub(super) clock: fn() -> Timestamp,
}

impl Sealing {
    /// Stores a signature of a manifest, which need not be stored itself yet.
    pub(super) async fn seal(
        &self,
        repository: &Repository,
        subject: &Descriptor,
        number: Option<ReleaseNumber>,
        purpose: Purpose,
    ) -> Result<Signed, OpsError> {
        let statement = Statement {
            repository: repository.name().clone(),
            release: subject.digest.clone(),
            number,
            purpose,
            time: whole_microseconds((self.clock)()),
        };
        let bytes = statement.to_bytes();
        let armored = self.signer.sign(NAMESPACE, &bytes).await?;
        let signature = Signature {
            statement: bytes,
            armored: armored.into(),
        };
        let id = signing::attach(repository, subject, &statement, &signature).await?;
        Ok(Signed {
            id,
            statement,
            fingerprint: self.signer.fingerprint(),
        })
    }

    /// Returns what this key has signed of the manifest already, as a release.
    async fn sealed(
        &self,
        repository: &Repository,
        subject: &Descriptor,
        number: Option<ReleaseNumber>,
    ) -> Result<Option<Signed>, OpsError> {
        let question = Question {
            repository: repository.name(),
            release: &subject.digest,
            number,
            now: (self.clock)(),
        };
        let ourselves = AllowedSigners::only(self.signer.public());
        for stored in signing::in_repository(repository, &subject.digest).await? {
            let checked = signing::check(&stored.signature, &question, &ourselves);
            if checked.wrong.is_none()
                && let Some(statement) = checked.statement
                && statement.purpose == Purpose::Release
            {
                return Ok(Some(Signed {
                    id: stored.id,
                    statement,
                    fingerprint: self.signer.fingerprint(),
                }));
            }
        }
        Ok(None)
    }
}

impl Project {
    /// Signs a release that the registry has: with `channel` at it or before it, or for a way back
    /// to it. What this key has signed already as a release is not signed again.
    ///
    /// A signature vouches for what the registry said: whoever does not trust it names the release
    /// by its id.
    ///
    /// # Errors
    /// [`OpsError::UnknownRelease`]; [`OpsError::NotToBeSigned`], [`OpsError::Ssh`],
    /// [`OpsError::Client`].
    pub async fn sign_release(
        &self,
        configuration: &ConfigurationName,
        name: &ReleaseName,
        channel: &Channel,
        purpose: Purpose,
        signer: &Signer,
    ) -> Result<Signed, OpsError> {
        let repository = self.configuration(configuration);
        let (subject, number) = self.numbered(configuration, name).await?;
        let refused = |reason: String| OpsError::NotToBeSigned {
            configuration: configuration.clone(),
            release: name.to_string(),
            reason,
        };
        let sealing = Sealing {
            signer: signer.clone(),
            clock: self.clock,
        };
        if purpose == Purpose::Release {
            let number = number.ok_or_else(|| {
                refused(
                    "it has no number by which hosts would know that it is newer\nhint: -rollback signs it by the time"
                        .to_owned(),
                )
            })?;
            let tag = Reference::Tag(Tag::from(channel));
            let newest = repository.manifest(&tag).await?;
            let newest = newest.and_then(|manifest| number_of(&manifest));
            if let Some(newest) = newest.filter(|newest| *newest > number) {
                return Err(refused(format!(
                    "channel `{channel}` is at {newest}, so that hosts would take {number} for a replay\nhint: -rollback signs it as a way back"
                )));
            }
            let sealed = sealing.sealed(&repository, &subject, Some(number)).await?;
            if let Some(signed) = sealed {
                return Ok(signed);
            }
        }
        sealing.seal(&repository, &subject, number, purpose).await
    }

    /// Returns the signatures of a release, with what can be said of each now.
    ///
    /// # Errors
    /// [`OpsError::UnknownRelease`], [`OpsError::NotToBeSigned`], [`OpsError::Client`].
    pub async fn signatures(
        &self,
        configuration: &ConfigurationName,
        name: &ReleaseName,
        signers: &AllowedSigners,
    ) -> Result<Signatures, OpsError> {
        let repository = self.configuration(configuration);
        let (subject, number) = self.numbered(configuration, name).await?;
        let question = Question {
            repository: repository.name(),
            release: &subject.digest,
            number,
            now: (self.clock)(),
        };
        let found = signing::in_repository(&repository, &subject.digest).await?;
        let checked = found.into_iter().map(|stored| {
            let checked = signing::check(&stored.signature, &question, signers);
            (stored.id, checked)
        });
        Ok(Signatures {
            signatures: checked.collect(),
            release: subject.digest,
            number,
        })
    }

    /// Returns the manifest of a release, and the number that it has itself.
    async fn numbered(
        &self,
        configuration: &ConfigurationName,
        name: &ReleaseName,
    ) -> Result<(Descriptor, Option<ReleaseNumber>), OpsError> {
        let repository = self.configuration(configuration);
        let manifest = repository.manifest(&name.into()).await?;
        let manifest = manifest.ok_or_else(|| OpsError::UnknownRelease {
            configuration: configuration.clone(),
            release: name.to_string(),
        })?;
        let number = number_of(&manifest);
        if let ReleaseName::Number(asked) = name
            && number != Some(*asked)
        {
            let found = number.map_or("one without a number".to_owned(), |number| {
                number.to_string()
            });
            return Err(OpsError::NotToBeSigned {
                configuration: configuration.clone(),
                release: name.to_string(),
                reason: format!("the registry has {found} in its place"),
            });
        }
        let size = manifest.bytes.len() as u64;
        let subject = Descriptor::new(manifest.media_type, manifest.digest, size);
        Ok((subject, number))
    }
}

fn number_of(manifest: &Manifest) -> Option<ReleaseNumber> {
    let outline = Outline::parse(None, &manifest.bytes).ok()?;
    outline.annotations.get(annotation::VERSION)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_named_by_number_or_id() {
        let id = Digest::sha256(b"");
        assert_eq!(
            "v3".parse(),
            Ok(ReleaseName::Number(ReleaseNumber::new(3).unwrap()))
        );
        assert_eq!(id.to_string().parse(), Ok(ReleaseName::Id(id)));
        for wrong in ["", "v0", "latest", "3", "sha256:ab"] {
            assert!(wrong.parse::<ReleaseName>().is_err(), "{wrong}");
        }
    }
}
