//! Referrers: which manifests name another one as their subject. The storage side of the
//! `referrers` endpoint.

use deploy_spec::{Descriptor, Digest, Outline, RepositoryName};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;

use super::{Page, Store, error::StoreError, keys, take_page};

/// Manifests that are read at the same time for one page.
const READ_AT_ONCE: usize = 8;
/// Clients read no more of an index than this, less what stands around the descriptors.
const PAGE_BYTES: usize = 4 * 1024 * 1024 - 1024;

/// A page of referrers.
#[derive(Clone, Debug)]
pub struct Referrers {
    /// What the page lists.
    pub manifests: Vec<Descriptor>,
    /// Where the next page goes on; nothing on the last one.
    pub next: Option<Digest>,
}

impl Store {
    /// Returns the manifests that refer to `subject`, from behind `last`, those of
    /// `artifact_type` only where it is given.
    ///
    /// Looks at up to `limit` manifests, so that a page costs the same however few of them are
    /// of the type asked for, and stops at what clients read of an index. A repository or a subject that is not there has no referrers.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&Digest>,
        limit: usize,
    ) -> Result<Referrers, StoreError> {
        let after = last.map(|last| keys::referrer(repository, subject, last));
        let prefix = keys::referrers(repository, subject);
        let listing = self.objects().list(&prefix, after.as_ref());
        let digests = listing.try_filter_map(|key: Path| async move { Ok(keys::digest_of(&key)) });
        let Page { items, more } = take_page(digests, limit).await?;
        let mut next = items.last().filter(|_| more).cloned();
        let mut read = futures::stream::iter(items)
            .map(|digest| async move {
                let found = self.referrer(repository, &digest).await?;
                Ok::<_, StoreError>((digest, found))
            })
            .buffered(READ_AT_ONCE);
        let (mut manifests, mut bytes, mut passed) = (Vec::new(), 0, None);
        while let Some((digest, found)) = read.try_next().await? {
            let wanted = |found: &Descriptor| {
                artifact_type.is_none_or(|wanted| found.artifact_type.as_deref() == Some(wanted))
            };
            if let Some(found) = found.filter(wanted) {
                let json = serde_json::to_vec(&found).expect("descriptors are plain structures");
                bytes += json.len();
                // One that is larger than a page makes a page of its own.
                if bytes > PAGE_BYTES && !manifests.is_empty() {
                    next = passed;
                    break;
                }
                manifests.push(found);
            }
            passed = Some(digest);
        }
        Ok(Referrers { manifests, next })
    }

    /// Returns the descriptor of a manifest; nothing where only its marker is there, or where
    /// it is no manifest any more that can be understood.
    async fn referrer(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Descriptor>, StoreError> {
        let Some(manifest) = self.read_manifest(repository, digest).await? else {
            return Ok(None);
        };
        let outline = Outline::parse(Some(&manifest.media_type), &manifest.bytes);
        Ok(outline
            .ok()
            .map(|outline| outline.descriptor(digest.clone(), manifest.bytes.len() as u64)))
    }
}
