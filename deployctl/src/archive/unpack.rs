//! Layers into a directory, in one call: open, plan, materialise. For the agent and for
//! whoever restores a tree.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use deploy_spec::Digest;

use super::{ArchiveError, LayerSource, Layers, Limits, Ownership, Plan, SpecialBits};

/// How layers are unpacked.
#[derive(Clone, Debug)]
pub struct UnpackOptions {
    /// The most that the archives may ask for.
    pub limits: Limits,
    /// Whose the files become.
    pub ownership: Ownership,
    /// What becomes of setuid, setgid and sticky bits.
    pub special_bits: SpecialBits,
    /// Set to true, it ends the unpacking at the next entry.
    pub stop: Arc<AtomicBool>,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            ownership: Ownership::of_process(),
            special_bits: SpecialBits::Strip,
            stop: Arc::default(),
        }
    }
}

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Directories below the root.
    pub directories: u64,
    /// Files, each counted once whatever its names.
    pub files: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes in the files.
    pub bytes: u64,
    /// The diff id that each layer proved to have, lowest first.
    pub diff_ids: Vec<Digest>,
}

impl Plan {
    /// Returns what the plan will make.
    pub fn summary(&self) -> Unpacked {
        let survivors = &self.survivors;
        Unpacked {
            directories: survivors.directories.len() as u64 - 1,
            files: survivors.files.len() as u64,
            hard_links: survivors.links.len() as u64,
            symlinks: survivors.symlinks.len() as u64,
            bytes: survivors.files.iter().map(|file| file.size).sum(),
            diff_ids: self
                .layers
                .iter()
                .map(|layer| layer.diff_id.clone())
                .collect(),
        }
    }
}

/// Unpacks `layers`, lowest first, into the empty directory `root`.
///
/// Every layer is read to its end, its digests compared and all entries checked, before
/// anything is written; then each file that survives the merge is written once. When it
/// returns, all of it is on stable storage. After an error `root` may hold a part of the
/// tree and should be removed.
///
/// # Errors
/// Those of [`Layers::open`], [`Layers::plan`] and [`Layers::materialise`].
pub fn unpack(
    layers: &[LayerSource],
    root: &Path,
    options: &UnpackOptions,
) -> Result<Unpacked, ArchiveError> {
    let mut layers = Layers::open(layers, Arc::clone(&options.stop))?;
    let plan = layers.plan(&options.limits)?;
    layers.materialise(&plan, root, options.ownership, options.special_bits)?;
    Ok(plan.summary())
}
