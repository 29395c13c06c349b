//! Referrers: the manifests whose subject a manifest is, read and added. Registries without the
//! endpoint keep them in an index under a tag that clients maintain (distribution-spec, "Referrers
//! tag schema").

use std::time::Duration;

use bytes::Bytes;
use deploy_spec::{Descriptor, Digest, Outline, Reference, Tag, listing::Referrers, media_type};
use http::Method;

use super::{ClientError, Condition, Put, Repository};

/// So many bytes of descriptors are read, on all pages together.
const REFERRERS_MAX: u64 = 16 * 1024 * 1024;
/// How often an index is written again that others write too.
const ROUNDS: u32 = 16;
/// A tag has room for so many characters of an algorithm and of its digest.
const ALGORITHM_MAX: usize = 32;
const HEX_MAX: usize = 64;

impl Repository {
    /// Returns descriptors of the manifests that refer to this one, all pages of them, filtered
    /// by artifact type where one is given.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::TooLarge`] where there are more than anybody can look at.
    pub async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let operation = format!("list the referrers of `{subject}` in `{}`", self.name);
        let mut url = self.url(&format!("referrers/{subject}"));
        if let Some(artifact_type) = artifact_type {
            url.query_pairs_mut()
                .append_pair("artifactType", artifact_type);
        }
        let call = self.reading(&operation, Method::GET, url);
        let pages: Option<Vec<Referrers>> =
            self.transport.pages_within(call, REFERRERS_MAX).await?;
        let mut descriptors = match pages {
            Some(pages) => pages.into_iter().flat_map(|page| page.manifests).collect(),
            None => self.index(subject).await?.1,
        };
        // Registries need not filter (no `OCI-Filters-Applied`); the fallback never does.
        if let Some(wanted) = artifact_type {
            descriptors.retain(|found| found.artifact_type.as_deref() == Some(wanted));
        }
        Ok(descriptors)
    }

    /// Stores a manifest that refers to `subject`, and returns its digest. Where the registry does
    /// not keep referrers by itself, it is listed in their index. Idempotent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_referrer(
        &self,
        subject: &Digest,
        manifest: Bytes,
    ) -> Result<Digest, ClientError> {
        let digest = Digest::sha256(&manifest);
        let outline = Outline::parse(None, &manifest);
        let outline = outline.map_err(|error| ClientError::Protocol {
            operation: format!("put manifest `{digest}` of `{}`", self.name),
            reason: error.to_string(),
        })?;
        let descriptor = outline.descriptor(digest.clone(), manifest.len() as u64);
        if !self.put_with_subject(&descriptor, manifest).await? {
            self.list_referrer(subject, descriptor).await?;
        }
        Ok(digest)
    }

    /// Returns what is listed under the tag of the schema, and what the tag is.
    async fn index(
        &self,
        subject: &Digest,
    ) -> Result<(Option<Digest>, Vec<Descriptor>), ClientError> {
        let Some(found) = self.manifest(&fallback_tag(subject)).await? else {
            return Ok((None, Vec::new()));
        };
        let outline = Outline::parse(None, &found.bytes).ok();
        let manifests = outline.map(|outline| outline.manifests);
        Ok((Some(found.digest), manifests.unwrap_or_default()))
    }

    /// Adds a manifest to the index of its subject's referrers, with as many others as there are.
    async fn list_referrer(
        &self,
        subject: &Digest,
        descriptor: Descriptor,
    ) -> Result<(), ClientError> {
        let tag = fallback_tag(subject);
        for round in 0..ROUNDS {
            let (known, mut manifests) = self.index(subject).await?;
            if manifests
                .iter()
                .any(|found| found.digest == descriptor.digest)
            {
                return Ok(());
            }
            manifests.push(descriptor.clone());
            let index = serde_json::to_vec(&Referrers::new(manifests));
            let index = index.expect("documents have string keys only");
            let condition = known.map_or(Condition::Absent, Condition::Matches);
            let put = self.put_manifest(&tag, media_type::IMAGE_INDEX, index.into(), &condition);
            // Even where it is stored it is read again: a registry without conditions may have
            // got another writer's since.
            if let Put::Refused { .. } = put.await? {
                tokio::time::sleep(Duration::from_millis(10 << round.min(5))).await;
            }
        }
        Err(ClientError::Protocol {
            operation: format!("list a referrer of `{subject}` in `{}`", self.name),
            reason: format!("`{tag}` was changed by others {ROUNDS} times"),
        })
    }
}

fn fallback_tag(subject: &Digest) -> Reference {
    let algorithm = subject.algorithm().to_string();
    let cut = |text: &str, most: usize| text[..text.len().min(most)].to_owned();
    let tag = format!(
        "{}-{}",
        cut(&algorithm, ALGORITHM_MAX),
        cut(subject.hex(), HEX_MAX)
    );
    let tag: Tag = tag.parse().expect("algorithm and hexadecimals are a tag");
    Reference::Tag(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_the_one_of_the_schema() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let tag = fallback_tag(&Digest::sha256(b"")).to_string();
        assert_eq!(tag, format!("sha256-{empty}"));
        let long = Digest::of(deploy_spec::Algorithm::Sha512, b"");
        assert_eq!(fallback_tag(&long).to_string().len(), "sha512-".len() + 64);
    }
}
