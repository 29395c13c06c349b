//! Removes what a host needs no more: old trees, layers, what was left half made. Called by `main`.
//!
//! Never what is deployed, what a deployment is at, or what could be gone back to. A tree is taken
//! out of sight before anything in it goes, so that being killed leaves nothing but more of what
//! is removed the next time.

use std::{
    collections::{BTreeSet, HashMap},
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use deploy_spec::Digest;
use deployctl::archive::remove_tree;
use serde::Serialize;

use crate::{
    cache::Cache,
    directory::Directory,
    error::AgentError,
    visit::{Host, Visit},
};

/// The unit in which file systems count what a file takes.
const BLOCK: u64 = 512;

/// What is removed.
#[derive(Clone, Copy, Debug)]
pub struct Pruning<'a> {
    /// Where.
    pub host: Host<'a>,
    /// How many trees stay of those that were deployed before, the last ones; the one to go back
    /// to always does.
    pub keep: usize,
    /// Whether it is only said what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be. Displays as lines for people; serialises as JSON for scripts,
/// with every field always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Whether nothing was removed yet.
    dry_run: bool,
    /// Trees of releases.
    trees: Vec<Tree>,
    /// Layers, and parts of them.
    layers: Vec<Removed>,
    /// What was left half made.
    leftovers: Vec<Removed>,
    /// Bytes that all of it takes on the disk.
    bytes: u64,
    /// Trees that stay.
    kept: Vec<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Tree {
    id: Digest,
    bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Removed {
    /// Relative to the agent's directory.
    path: String,
    bytes: u64,
}

impl Pruned {
    /// Removes what the host needs no more, or finds out what that is. The agent waits meanwhile.
    ///
    /// # Errors
    /// [`AgentError::NoAgent`], [`AgentError::Busy`]; [`AgentError::Damaged`], since nobody knows
    /// then what is needed; [`AgentError::Remove`] where something stays: what was removed before
    /// it is gone.
    pub fn make(pruning: &Pruning<'_>) -> Result<Self, AgentError> {
        let visit = Visit::enter(&pruning.host)?;
        let directory = &visit.directory;
        let kept = kept(&visit, pruning.keep);
        let mut trees = Vec::new();
        for (id, path) in directory.trees()? {
            if !kept.contains(&id) {
                let bytes = usage(&path);
                trees.push(Tree { id, bytes });
            }
        }
        let cache = Cache::of(directory);
        let layers = cache.others(&needed(&visit))?;
        let leftovers = directory.staging()?;
        let removed = |path: &PathBuf| Removed {
            path: shown(directory, path),
            bytes: usage(path),
        };
        let mut pruned = Self {
            dry_run: pruning.dry_run,
            layers: layers.iter().map(removed).collect(),
            leftovers: leftovers.iter().map(removed).collect(),
            trees,
            bytes: 0,
            kept: { kept }
                .into_iter()
                .filter(|id| directory.has_tree(id))
                .collect(),
        };
        let others = pruned.layers.iter().chain(&pruned.leftovers);
        let others = others.map(|removed| removed.bytes);
        pruned.bytes = { others }
            .chain(pruned.trees.iter().map(|tree| tree.bytes))
            .sum();
        if !pruning.dry_run {
            // What was hidden first makes room first.
            for path in leftovers.iter().chain(&layers) {
                remove_tree(path).map_err(AgentError::Remove)?;
            }
            for tree in &pruned.trees {
                directory.remove_tree(&tree.id)?;
            }
        }
        Ok(pruned)
    }
}

/// Returns the releases whose trees stay.
fn kept(visit: &Visit, keep: usize) -> BTreeSet<Digest> {
    let entry = &visit.entry;
    let mut kept: BTreeSet<Digest> = [&visit.deployed, &entry.deployed]
        .into_iter()
        .flatten()
        .map(|known| known.record.id.clone())
        .collect();
    kept.extend(visit.directory.current());
    kept.extend(visit.under_way().cloned());
    kept.extend(entry.old.clone());
    kept.extend(entry.unfinished.clone());
    kept.extend(entry.wanted.clone());
    kept.extend(entry.before().map(|before| before.record.id.clone()));
    let bad = |id: &Digest| entry.bad.iter().any(|bad| bad.id == *id);
    let history = entry.history.iter().map(|known| &known.record.id);
    let history = history.filter(|id| !bad(id) && visit.directory.has_tree(id));
    kept.extend(history.take(keep).cloned());
    kept
}

/// Returns the layers that stay: of what is deployed, and of what is being deployed.
fn needed(visit: &Visit) -> Vec<&Digest> {
    let entry = &visit.entry;
    let coming = visit.under_way().and(entry.release.as_ref());
    let releases = [visit.deployed.as_ref(), entry.deployed.as_ref(), coming];
    let layers = releases.into_iter().flatten();
    let layers = layers.flat_map(|known| &known.record.layers);
    layers.map(|layer| &layer.digest).collect()
}

fn shown(directory: &Directory, path: &Path) -> String {
    let within = path.strip_prefix(directory.path()).unwrap_or(path);
    within.display().to_string()
}

/// Returns how many bytes of the disk are free again once all of `root` is gone, as far as that can
/// be seen: a file that has names elsewhere stays.
fn usage(root: &Path) -> u64 {
    let mut bytes = 0;
    let mut shared: HashMap<(u64, u64), u64> = HashMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            open.extend(entries.map(|entry| entry.path()));
        } else if metadata.nlink() > 1 {
            let names = shared.entry((metadata.dev(), metadata.ino())).or_default();
            *names += 1;
            if *names < metadata.nlink() {
                continue;
            }
        }
        bytes += metadata.blocks() * BLOCK;
    }
    bytes
}

impl fmt::Display for Pruned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed = match self.dry_run {
            true => "would remove",
            false => "removed",
        };
        for tree in &self.trees {
            writeln!(
                formatter,
                "{removed} tree {}: {} bytes",
                tree.id, tree.bytes
            )?;
        }
        for (what, all) in [("layer", &self.layers), ("leftover", &self.leftovers)] {
            for Removed { path, bytes } in all {
                writeln!(formatter, "{removed} {what} {path}: {bytes} bytes")?;
            }
        }
        writeln!(
            formatter,
            "{removed} {} trees, {} layers, {} leftovers: {} bytes; {} trees stay",
            self.trees.len(),
            self.layers.len(),
            self.leftovers.len(),
            self.bytes,
            self.kept.len()
        )
    }
}
