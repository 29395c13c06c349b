//! Signatures beside a release: as referrers of its manifest in a registry, or as manifests in a
//! layout that name it as their subject. What is stored there is hostile until it is checked, and
//! all of it is bounded.

use std::io::Read as _;

use bytes::Bytes;
use deploy_spec::{
    Descriptor, Digest, Reference, media_type,
    signature::{
        ARMORED_MAX, MANIFEST_MAX, SIGNATURES_MAX, STATEMENT_MAX, Signature, SignatureManifest,
        Statement,
    },
};

use crate::{
    client::{ClientError, Content, Progress, Repository},
    layout::{self, LayoutError},
};

/// So many manifests of a layout are opened to see whether they are signatures.
const LISTED_MAX: usize = 1024;

/// A signature that is stored beside a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The digest of its manifest.
    pub id: Digest,
    /// The signature.
    pub signature: Signature,
}

/// Stores a signature beside the release that this descriptor tells of, which need not be there
/// yet, and returns the digest of the signature's manifest. Idempotent.
///
/// # Errors
/// [`ClientError`].
pub async fn attach(
    repository: &Repository,
    subject: &Descriptor,
    statement: &Statement,
    signature: &Signature,
) -> Result<Digest, ClientError> {
    let documents = SignatureManifest::documents(subject, statement, signature);
    for blob in documents.blobs {
        let digest = Digest::sha256(&blob);
        let content = Content::Bytes(blob.into());
        repository
            .upload(&digest, &content, &Progress::none())
            .await?;
    }
    let manifest = Bytes::from(documents.manifest);
    repository.put_referrer(&subject.digest, manifest).await
}

/// Returns the signatures that a repository has of a release, at most [`SIGNATURES_MAX`]. What
/// refers to the release and is none is passed over.
///
/// # Errors
/// [`ClientError`].
pub async fn in_repository(
    repository: &Repository,
    release: &Digest,
) -> Result<Vec<Stored>, ClientError> {
    let mut referrers = repository
        .referrers(release, Some(media_type::SIGNATURE))
        .await?;
    referrers.truncate(SIGNATURES_MAX);
    let mut found = Vec::new();
    for referrer in referrers {
        match read(repository, &referrer, release).await {
            Ok(signature) => found.push(Stored {
                id: referrer.digest,
                signature,
            }),
            Err(NotRead::Broken(why)) => {
                tracing::debug!(signature.digest = %referrer.digest, "passed over: {why}");
            }
            Err(NotRead::Client(error)) => return Err(error),
        }
    }
    Ok(found)
}

/// Why a referrer is not read.
enum NotRead {
    /// It is at fault; others may be good.
    Broken(String),
    /// The registry is.
    Client(ClientError),
}

impl From<ClientError> for NotRead {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NotFound { .. }
            | ClientError::Digest { .. }
            | ClientError::Size { .. }
            | ClientError::TooLarge { .. } => Self::Broken(error.to_string()),
            error => Self::Client(error),
        }
    }
}

async fn read(
    repository: &Repository,
    referrer: &Descriptor,
    release: &Digest,
) -> Result<Signature, NotRead> {
    if referrer.size > MANIFEST_MAX {
        return Err(NotRead::Broken(format!("it has {} bytes", referrer.size)));
    }
    let reference = Reference::Digest(referrer.digest.clone());
    let manifest = repository.manifest(&reference).await?;
    let manifest = manifest.ok_or_else(|| NotRead::Broken("it is not there".to_owned()))?;
    let parsed = parse(&manifest.bytes, release).map_err(NotRead::Broken)?;
    let blob = |digest: Digest, limit| async move { repository.blob_bytes(&digest, limit).await };
    Ok(Signature {
        statement: blob(parsed.statement.digest, STATEMENT_MAX).await?.to_vec(),
        armored: blob(parsed.armored.digest, ARMORED_MAX).await?.to_vec(),
    })
}

fn parse(manifest: &[u8], release: &Digest) -> Result<SignatureManifest, String> {
    let parsed = SignatureManifest::parse(manifest).map_err(|error| error.to_string())?;
    match parsed.subject == *release {
        true => Ok(parsed),
        false => Err(format!("it is of `{}`", parsed.subject)),
    }
}

/// Returns the signatures that a layout has of a release, at most [`SIGNATURES_MAX`]: those whose
/// manifests its index lists, as `oras cp -r` brings them. What is damaged is passed over. Blocks.
///
/// # Errors
/// [`LayoutError`].
pub fn in_layout(
    content: &dyn layout::Content,
    release: &Digest,
) -> Result<Vec<Stored>, LayoutError> {
    let listed = content.manifests()?;
    let may_be_one = |descriptor: &&Descriptor| {
        let artifact_type = descriptor.artifact_type.as_deref();
        descriptor.media_type == media_type::IMAGE_MANIFEST
            && descriptor.size <= MANIFEST_MAX
            && artifact_type.is_none_or(|artifact_type| artifact_type == media_type::SIGNATURE)
            && descriptor.digest != *release
    };
    let mut found: Vec<Stored> = Vec::new();
    for descriptor in listed.iter().filter(may_be_one).take(LISTED_MAX) {
        let id = &descriptor.digest;
        let known = found.iter().any(|stored| stored.id == *id);
        let Some(manifest) = blob(content, id, MANIFEST_MAX)?.filter(|_| !known) else {
            continue;
        };
        let Ok(parsed) = parse(&manifest, release) else {
            continue;
        };
        let statement = blob(content, &parsed.statement.digest, STATEMENT_MAX)?;
        let armored = blob(content, &parsed.armored.digest, ARMORED_MAX)?;
        if let (Some(statement), Some(armored)) = (statement, armored) {
            found.push(Stored {
                id: id.clone(),
                signature: Signature { statement, armored },
            });
        }
        if found.len() == SIGNATURES_MAX {
            break;
        }
    }
    Ok(found)
}

/// Returns a small blob; nothing where it is not there, is damaged, or has more bytes.
fn blob(
    content: &dyn layout::Content,
    digest: &Digest,
    limit: u64,
) -> Result<Option<Vec<u8>>, LayoutError> {
    let Some(blob) = content.open(digest)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let read = blob.take(limit + 1).read_to_end(&mut bytes);
    let whole = read.is_ok() && bytes.len() as u64 <= limit;
    Ok((whole && Digest::of(digest.algorithm(), &bytes) == *digest).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use deploy_spec::{ReleaseNumber, signature::Purpose};

    use super::*;
    use crate::layout::Layout;

    fn statement(release: &Digest) -> Statement {
        Statement {
            repository: "configs/project".parse().unwrap(),
            release: release.clone(),
            number: Some(ReleaseNumber::FIRST),
            purpose: Purpose::Release,
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
        }
    }

    /// Stores a signature in a layout and returns its manifest's descriptor.
    fn store(layout: &Layout, release: &Digest, armored: &str) -> Descriptor {
        let statement = statement(release);
        let signature = Signature {
            statement: statement.to_bytes(),
            armored: armored.into(),
        };
        let subject = Descriptor::new(media_type::IMAGE_MANIFEST, release.clone(), 7);
        let documents = SignatureManifest::documents(&subject, &statement, &signature);
        for blob in &documents.blobs {
            layout.put_blob(&Digest::sha256(blob), &blob[..]).unwrap();
        }
        let manifest = &documents.manifest;
        let digest = Digest::sha256(manifest);
        layout.put_blob(&digest, &manifest[..]).unwrap();
        let size = manifest.len() as u64;
        let descriptor = Descriptor::new(media_type::IMAGE_MANIFEST, digest, size);
        layout.list(&descriptor, None).unwrap();
        descriptor
    }

    #[test]
    fn signatures_in_a_layout_are_those_that_name_the_release() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::create(place.path()).unwrap();
        let (release, other) = (Digest::sha256(b"release"), Digest::sha256(b"other"));
        let missing = Descriptor::new(media_type::IMAGE_MANIFEST, Digest::sha256(b"gone"), 4);
        layout.list(&missing, None).unwrap();
        let one = store(&layout, &release, "one");
        store(&layout, &other, "of another");
        let two = store(&layout, &release, "two");
        let found = in_layout(&layout, &release).unwrap();
        let ids: Vec<_> = found.iter().map(|stored| &stored.id).collect();
        assert_eq!(ids, [&one.digest, &two.digest]);
        assert_eq!(found[1].signature.armored, b"two");
        assert_eq!(found[0].signature.statement, statement(&release).to_bytes());
        // A damaged one is no reason not to look at the others.
        std::fs::write(layout.blob_path(&Digest::sha256(b"one")), "eno").unwrap();
        let found = in_layout(&layout, &release).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id, two.digest);
    }

    #[test]
    fn a_layout_full_of_signatures_is_not_read_to_its_end() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::create(place.path()).unwrap();
        let release = Digest::sha256(b"release");
        for number in 0..=SIGNATURES_MAX {
            store(&layout, &release, &number.to_string());
        }
        let found = in_layout(&layout, &release).unwrap();
        assert_eq!(found.len(), SIGNATURES_MAX);
    }
}
