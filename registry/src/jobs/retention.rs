//! Keeping the newest versions of each component, and every version that is in use (`-maxver`);
//! and the newest releases of each configuration, and every release that a channel means
//! (`--max-releases`).
//!
//! Only tags are removed here, each where it still is as it was judged; what nobody needs
//! without them is collected.

use std::collections::{BTreeMap, HashSet};

use deploy_spec::{
    ComponentName, Digest, Outline, Prefix, ReleaseNumber, RepositoryName, Tag, Version,
    annotation, name::Owned,
};
use serde::{Deserialize, Serialize};

use crate::{
    audit::{AuditLog, Witness},
    store::{Change, JudgedTag, Mode, Pace, Store, StoreError, TagRecord},
};

/// Repositories that are listed at a time.
const PAGE: usize = 1000;

/// How much is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Versions of each component, besides those in use; all without a number.
    pub versions: Option<usize>,
    /// Releases of each configuration, besides those that a channel means; all without a
    /// number.
    pub releases: Option<usize>,
}

/// What a round of retention did; with a dry run, what it would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Tags that are gone.
    pub removed_tags: Vec<(RepositoryName, Tag)>,
    /// How many versions stayed.
    pub kept_versions: usize,
    /// How many releases stayed.
    pub kept_releases: usize,
}

/// What releases use: nothing of it may go.
#[derive(Debug, Default)]
struct InUse {
    /// Layers, by digest.
    layers: HashSet<Digest>,
    /// Versions, by the names that releases give their layers.
    versions: HashSet<(Prefix, ComponentName, Version)>,
}

struct Round<'a> {
    store: &'a Store,
    mode: Mode,
    pace: &'a Pace,
    witness: Witness,
    retained: Retained,
}

/// Removes releases of configurations and versions of components, whatever prefix they stand
/// under, beyond what is kept.
///
/// Of a configuration, the releases with the largest numbers stay, and each that any other tag
/// means. Of a component, those versions stay that were pushed last, and each that a tagged
/// release of any configuration uses. What releases use is looked up before and is not looked up
/// again: a release that is made meanwhile holds its layers by itself, as every configuration's
/// repository does.
///
/// # Errors
/// Of the store. Where a release cannot be read, no version is removed: it may use any.
pub async fn retain(
    store: &Store,
    retention: &Retention,
    mode: Mode,
    pace: &Pace,
) -> Result<Retained, StoreError> {
    retain_audited(store, retention, mode, pace, &AuditLog::off()).await
}

/// As [`retain`], and writes down in the log what it removes.
///
/// # Errors
/// As there.
pub async fn retain_audited(
    store: &Store,
    retention: &Retention,
    mode: Mode,
    pace: &Pace,
    audit: &AuditLog,
) -> Result<Retained, StoreError> {
    let mut round = Round {
        store,
        mode,
        pace,
        witness: Witness::upkeep(audit),
        retained: Retained::default(),
    };
    if retention.versions.is_none() && retention.releases.is_none() {
        return Ok(round.retained);
    }
    let mut in_use = InUse::default();
    let mut components = BTreeMap::new();
    let mut last: Option<RepositoryName> = None;
    loop {
        pace.read().await?;
        let page = store.repositories(last.as_ref(), PAGE).await?;
        for repository in &page.items {
            match Prefix::split_any(repository) {
                Some((prefix, Owned::Configuration(_))) => {
                    let left = round.releases(repository, retention.releases).await?;
                    if retention.versions.is_some() {
                        round
                            .add_in_use(&mut in_use, &prefix, repository, left)
                            .await?;
                    }
                }
                Some((prefix, Owned::Component(name))) => {
                    components.insert(repository.clone(), (prefix, name));
                }
                None => {}
            }
        }
        last = page.items.last().cloned();
        if !page.more {
            break;
        }
    }
    if let Some(newest) = retention.versions {
        for (repository, (prefix, name)) in components {
            round
                .versions(&repository, prefix, name, newest, &in_use)
                .await?;
        }
    }
    Ok(round.retained)
}

impl Round<'_> {
    /// Removes old releases of a configuration; returns the manifests of all tags that stay.
    async fn releases(
        &mut self,
        repository: &RepositoryName,
        newest: Option<usize>,
    ) -> Result<Vec<Digest>, StoreError> {
        self.pace.read().await?;
        let (mut releases, mut left) = (Vec::new(), Vec::new());
        for judged in self.store.judge_tags(repository).await? {
            match judged.tag.as_str().parse::<ReleaseNumber>() {
                Ok(number) => releases.push((number, judged)),
                Err(_) => left.push(judged.record.digest),
            }
        }
        releases.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let channels: HashSet<Digest> = left.iter().cloned().collect();
        for (index, (_, judged)) in releases.into_iter().enumerate() {
            let digest = judged.record.digest.clone();
            let stays = newest.is_none_or(|newest| index < newest) || channels.contains(&digest);
            if stays || !self.remove(repository, judged).await? {
                self.retained.kept_releases += 1;
                left.push(digest);
            }
        }
        Ok(left)
    }

    /// Removes a tag where it is as it was judged; false where it is not.
    async fn remove(
        &mut self,
        repository: &RepositoryName,
        judged: JudgedTag,
    ) -> Result<bool, StoreError> {
        let tag = judged.tag.clone();
        if self.mode == Mode::Do {
            self.pace.change().await?;
            let (store, name) = (self.store.clone(), repository.clone());
            let (witness, old) = (self.witness.clone(), tag.clone());
            // To its end, even where we are dropped.
            let retire = tokio::spawn(async move {
                let before = Some(judged.record.digest.clone());
                let removed = store.retire_tag(&name, judged).await?;
                if removed {
                    let change = Change::TagDeleted { tag: old, before };
                    witness.saw_for(&name, change, Some("there are newer ones"));
                }
                Ok::<_, StoreError>(removed)
            });
            let removed = retire.await.map_err(std::io::Error::other)??;
            if !removed {
                return Ok(false);
            }
            tracing::info!(%repository, %tag, "removed an old version");
        }
        self.retained.removed_tags.push((repository.clone(), tag));
        Ok(true)
    }

    async fn add_in_use(
        &self,
        in_use: &mut InUse,
        prefix: &Prefix,
        repository: &RepositoryName,
        mut wanted: Vec<Digest>,
    ) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        while let Some(digest) = wanted.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            self.pace.read().await?;
            let Some(manifest) = self.store.read_manifest(repository, &digest).await? else {
                // Removed meanwhile, or never there in a sparse index.
                continue;
            };
            let outline = Outline::parse(Some(&manifest.media_type), &manifest.bytes)?;
            wanted.extend(outline.manifests.iter().map(|child| child.digest.clone()));
            for layer in outline.layers {
                let named = |key| layer.annotation(key).and_then(|text| text.parse().ok());
                let component: Option<ComponentName> = named(annotation::COMPONENT);
                let version: Option<Version> = layer
                    .annotation(annotation::COMPONENT_VERSION)
                    .and_then(|text| text.parse().ok());
                if let (Some(component), Some(version)) = (component, version) {
                    in_use.versions.insert((prefix.clone(), component, version));
                }
                in_use.layers.insert(layer.digest);
            }
        }
        Ok(())
    }

    async fn versions(
        &mut self,
        repository: &RepositoryName,
        prefix: Prefix,
        name: ComponentName,
        newest: usize,
        in_use: &InUse,
    ) -> Result<(), StoreError> {
        self.pace.read().await?;
        let mut versions = self.store.judge_tags(repository).await?;
        versions.retain(|judged| !is_referrers_tag(&judged.tag));
        // Of two pushed within one tick of the clock, the larger name is the newer one.
        versions.sort_by(|one, other| {
            (other.record.moved, &other.tag).cmp(&(one.record.moved, &one.tag))
        });
        for (index, judged) in versions.into_iter().enumerate() {
            let named = (prefix.clone(), name.clone(), Version::from(&judged.tag));
            if index < newest
                || in_use.versions.contains(&named)
                || self.uses(repository, &judged.record, in_use).await?
                || !self.remove(repository, judged).await?
            {
                self.retained.kept_versions += 1;
            }
        }
        Ok(())
    }

    /// Returns whether a release has a layer of this version, whatever it calls it.
    async fn uses(
        &self,
        repository: &RepositoryName,
        record: &TagRecord,
        in_use: &InUse,
    ) -> Result<bool, StoreError> {
        self.pace.read().await?;
        let Some(manifest) = self.store.read_manifest(repository, &record.digest).await? else {
            return Ok(false);
        };
        let outline = Outline::parse(Some(&manifest.media_type), &manifest.bytes)?;
        Ok(outline
            .layers
            .iter()
            .any(|layer| in_use.layers.contains(&layer.digest)))
    }
}

/// Returns whether the tag is what clients list referrers in where a registry cannot
/// (distribution-spec, "Referrers tag schema"): no version.
fn is_referrers_tag(tag: &Tag) -> bool {
    Digest::from_file_name(tag.as_str()).is_ok()
}
