//! Keeping the newest versions of each component, and every version that is in use (`-maxver`).

use std::collections::{BTreeMap, HashSet};

use deploy_spec::{
    ComponentName, Digest, Outline, Prefix, RepositoryName, Tag, Version, annotation, name::Owned,
};

use crate::store::{Store, StoreError, TagRecord};

/// Repositories that are listed at a time.
const PAGE: usize = 1000;

/// What a round of retention did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Versions that are gone.
    pub removed: usize,
    /// Versions that stayed.
    pub kept: usize,
}

/// What releases use: nothing of it may go.
#[derive(Debug, Default)]
struct InUse {
    /// Layers, by digest.
    layers: HashSet<Digest>,
    /// Versions, by the names that releases give their layers.
    versions: HashSet<(Prefix, ComponentName, Version)>,
}

/// Removes versions of components, whatever prefix they stand under, so that each keeps its
/// newest `newest`, and besides those every version that a tagged release of any configuration
/// uses. Newest is what was pushed last.
///
/// What releases use is looked up before and is not looked up again: a release that is made
/// meanwhile holds its layers by itself, as every configuration's repository does.
///
/// # Errors
/// Where a release cannot be read, nothing is removed: it may use anything.
pub async fn retain_versions(store: &Store, newest: usize) -> Result<Retained, StoreError> {
    let mut in_use = InUse::default();
    let mut components = BTreeMap::new();
    let mut last: Option<RepositoryName> = None;
    loop {
        let page = store.repositories(last.as_ref(), PAGE).await?;
        for repository in &page.items {
            match Prefix::split_any(repository) {
                Some((prefix, Owned::Configuration(_))) => {
                    in_use.add_releases(store, &prefix, repository).await?;
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
    let mut retained = Retained::default();
    for (repository, (prefix, name)) in components {
        let one = retain_component(store, &repository, prefix, name, newest, &in_use).await?;
        retained.removed += one.removed;
        retained.kept += one.kept;
    }
    Ok(retained)
}

impl InUse {
    async fn add_releases(
        &mut self,
        store: &Store,
        prefix: &Prefix,
        repository: &RepositoryName,
    ) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        let mut wanted: Vec<Digest> = (store.all_tags(repository).await?.into_iter())
            .map(|(_, record)| record.digest)
            .collect();
        while let Some(digest) = wanted.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            let manifest = match store.manifest(repository, &digest.into()).await {
                // Removed meanwhile, or never there in a sparse index.
                Err(StoreError::ManifestUnknown(_)) => continue,
                found => found?,
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
                    self.versions.insert((prefix.clone(), component, version));
                }
                self.layers.insert(layer.digest);
            }
        }
        Ok(())
    }
}

async fn retain_component(
    store: &Store,
    repository: &RepositoryName,
    prefix: Prefix,
    name: ComponentName,
    newest: usize,
    in_use: &InUse,
) -> Result<Retained, StoreError> {
    let mut versions = store.all_tags(repository).await?;
    versions.retain(|(tag, _)| !is_referrers_tag(tag));
    // Of two pushed within one tick of the clock, the larger name is the newer one.
    versions.sort_by(|(tag, record), (other_tag, other)| {
        (other.moved, other_tag).cmp(&(record.moved, tag))
    });
    let mut retained = Retained::default();
    let mut kept: HashSet<Digest> = HashSet::new();
    let mut removed: Vec<Digest> = Vec::new();
    for (index, (tag, record)) in versions.into_iter().enumerate() {
        let named = (prefix.clone(), name.clone(), Version::from(&tag));
        if index < newest
            || in_use.versions.contains(&named)
            || uses(store, repository, &record, in_use).await?
        {
            kept.insert(record.digest);
            retained.kept += 1;
            continue;
        }
        match store.delete_tag(repository, &tag).await {
            Err(StoreError::ManifestUnknown(_)) => continue,
            done => done?,
        }
        tracing::info!(component = %name, version = %tag, "removed an old version");
        removed.push(record.digest);
        retained.removed += 1;
    }
    for digest in removed {
        if kept.contains(&digest) {
            continue;
        }
        match store.delete_untagged(repository, &digest).await {
            Err(StoreError::ManifestUnknown(_)) => {}
            done => done?,
        }
    }
    Ok(retained)
}

/// Returns whether a release has a layer of this version, whatever it calls it.
async fn uses(
    store: &Store,
    repository: &RepositoryName,
    record: &TagRecord,
    in_use: &InUse,
) -> Result<bool, StoreError> {
    let manifest = match store
        .manifest(repository, &record.digest.clone().into())
        .await
    {
        Err(StoreError::ManifestUnknown(_)) => return Ok(false),
        found => found?,
    };
    let outline = Outline::parse(Some(&manifest.media_type), &manifest.bytes)?;
    Ok(outline
        .layers
        .iter()
        .any(|layer| in_use.layers.contains(&layer.digest)))
}

/// Returns whether the tag is what clients list referrers in where a registry cannot
/// (distribution-spec, "Referrers tag schema"): no version.
fn is_referrers_tag(tag: &Tag) -> bool {
    Digest::from_file_name(tag.as_str()).is_ok()
}
