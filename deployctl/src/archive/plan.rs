//! Reads every header of every layer, verifies every digest, and merges all of it into one
//! tree in memory. For `unpack`, and for whoever only wants to know what would come out.

use std::{
    fs::File,
    io::{self, Seek},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use deploy_spec::{Algorithm, Digest};

use super::{
    ArchiveError, LimitKind, Limits,
    decode::{Content, Measured, Wanted},
    error::escape,
    measure::MeasuringReader,
    reader::TarReader,
    survivors::Survivors,
    tree::Tree,
};

/// A layer in a file, with what is promised about it.
#[derive(Clone, Debug)]
pub struct LayerSource {
    /// What messages call it, such as `code:v01`.
    pub name: String,
    /// The archive.
    pub path: PathBuf,
    /// The digest that its bytes must have.
    pub digest: Digest,
    /// The number of bytes that it must have, where that is known.
    pub size: Option<u64>,
    /// The digest that its uncompressed bytes must have, where that is known.
    pub diff_id: Option<Digest>,
}

/// Opened layers: the very files that were verified are the ones that are unpacked.
pub struct Layers {
    layers: Vec<OpenLayer>,
    stop: Arc<AtomicBool>,
}

pub(super) struct OpenLayer {
    pub(super) source: LayerSource,
    pub(super) file: File,
}

/// The tree that some layers make together, verified but not yet on a disk.
pub struct Plan {
    pub(super) survivors: Survivors,
    pub(super) layers: Vec<Measured>,
}

impl Layers {
    /// Opens the layers' files, lowest first. `stop` set to true ends whatever is being done
    /// with them at the next entry.
    ///
    /// # Errors
    /// [`ArchiveError::Io`] for a file that cannot be opened.
    pub fn open(sources: &[LayerSource], stop: Arc<AtomicBool>) -> Result<Self, ArchiveError> {
        let open = |source: &LayerSource| {
            let file = File::open(&source.path)
                .map_err(ArchiveError::io("open", &source.path))
                .map_err(|error| error.in_layer(&source.name))?;
            Ok(OpenLayer {
                source: source.clone(),
                file,
            })
        };
        Ok(Self {
            layers: sources.iter().map(open).collect::<Result<_, _>>()?,
            stop,
        })
    }

    /// Reads all layers to their ends and returns the tree that they make: a later layer's
    /// entry replaces an earlier one's whatever either is, a directory over a directory keeps
    /// what is in it, whiteouts remove from lower layers only.
    ///
    /// # Errors
    /// [`ArchiveError::Layer`], naming the layer and within it what is wrong: a size, digest or
    /// diff id that does not agree, a refused entry, a limit that is passed.
    pub fn plan(&mut self, limits: &Limits) -> Result<Plan, ArchiveError> {
        let mut tree = Tree::new();
        let mut budget = Budget {
            entries: 0,
            bytes: 0,
        };
        let mut layers = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let measured = layer
                .plan(index, &mut tree, &mut budget, limits, &self.stop)
                .map_err(|error| error.in_layer(&layer.source.name))?;
            layers.push(measured);
        }
        Ok(Plan {
            survivors: Survivors::of(tree),
            layers,
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut OpenLayer> {
        self.layers.iter_mut()
    }

    pub(super) fn stop(&self) -> &Arc<AtomicBool> {
        &self.stop
    }
}

/// What all layers together have used of the limits.
struct Budget {
    entries: u64,
    bytes: u64,
}

impl OpenLayer {
    /// Returns a reader of the layer's entries from its start, which hashes what it reads.
    pub(super) fn reader(
        &mut self,
        verify: Verify,
        limits: &Limits,
    ) -> Result<TarReader<&mut File>, ArchiveError> {
        self.file.rewind().map_err(ArchiveError::Read)?;
        let wanted = Wanted {
            digest: match verify {
                Verify::Everything => Some(self.source.digest.algorithm()),
                Verify::Content => None,
            },
            diff_id: self
                .source
                .diff_id
                .as_ref()
                .map_or(Algorithm::Sha256, Digest::algorithm),
        };
        let content = Content::open(&mut self.file, wanted, limits.clone())?;
        Ok(TarReader::new(content, limits.clone()))
    }

    /// Merges the layer into `tree` and returns what it proved to be.
    fn plan(
        &mut self,
        index: usize,
        tree: &mut Tree,
        budget: &mut Budget,
        limits: &Limits,
        stop: &AtomicBool,
    ) -> Result<Measured, ArchiveError> {
        let found = self.file.metadata().map_err(ArchiveError::Read)?.len();
        match self.source.size {
            Some(expected) if expected != found => {
                return Err(ArchiveError::Size { expected, found });
            }
            _ => {}
        }
        match self.merge(index, tree, budget, limits, stop) {
            Err(ArchiveError::Interrupted) => Err(ArchiveError::Interrupted),
            // Wrong bytes explain whatever they led to, and can be fetched again.
            Err(error) => self.check_digest().and(Err(error)),
            Ok(measured) => Ok(measured),
        }
    }

    fn merge(
        &mut self,
        index: usize,
        tree: &mut Tree,
        budget: &mut Budget,
        limits: &Limits,
        stop: &AtomicBool,
    ) -> Result<Measured, ArchiveError> {
        let layer = u16::try_from(index).map_err(|_| ArchiveError::Limit {
            entry: self.source.name.clone(),
            limit: LimitKind::Layers,
            maximum: u64::from(u16::MAX),
        })?;
        let mut remaining = limits.clone();
        remaining.bytes = limits.bytes.saturating_sub(budget.bytes);
        let mut reader = self.reader(Verify::Everything, &remaining)?;
        while let Some(entry) = reader.next()? {
            if stop.load(Ordering::Relaxed) {
                return Err(ArchiveError::Interrupted);
            }
            budget.entries += 1;
            if budget.entries > limits.entries {
                return Err(ArchiveError::Limit {
                    entry: escape(&entry.name),
                    limit: LimitKind::Entries,
                    maximum: limits.entries,
                });
            }
            let ordinal =
                u32::try_from(reader.count() - 1).expect("the limit of entries is below 2^32");
            tree.add(layer, ordinal, &entry, limits)?;
        }
        let (content, end) = reader.finish()?;
        let (_, measured) = content.finish();
        budget.bytes += measured.unpacked_size;
        self.source.verify(&measured)?;
        if end.trailing > 0 {
            tracing::warn!(
                layer = %self.source.name,
                bytes = end.trailing,
                "bytes that are no padding follow the end of the layer's archive; they are not unpacked"
            );
        }
        Ok(measured)
    }

    /// Hashes the file's bytes without looking into them.
    fn check_digest(&mut self) -> Result<(), ArchiveError> {
        self.file.rewind().map_err(ArchiveError::Read)?;
        let mut reader = MeasuringReader::new(&mut self.file, Some(self.source.digest.algorithm()));
        io::copy(&mut reader, &mut io::sink()).map_err(ArchiveError::Read)?;
        let (_, found) = reader.finish();
        match found {
            Some(found) if found != self.source.digest => Err(ArchiveError::Digest {
                expected: self.source.digest.clone(),
                found,
            }),
            _ => Ok(()),
        }
    }
}

/// How much of a layer is hashed while it is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verify {
    /// Both sides of the compression.
    Everything,
    /// The uncompressed side only: the other has been seen.
    Content,
}

impl LayerSource {
    /// Checks what was measured against what is promised.
    pub(super) fn verify(&self, measured: &Measured) -> Result<(), ArchiveError> {
        if let Some(found) = &measured.digest
            && *found != self.digest
        {
            return Err(ArchiveError::Digest {
                expected: self.digest.clone(),
                found: found.clone(),
            });
        }
        match &self.diff_id {
            Some(expected) if *expected != measured.diff_id => Err(ArchiveError::DiffId {
                expected: expected.clone(),
                found: measured.diff_id.clone(),
            }),
            _ => Ok(()),
        }
    }
}
