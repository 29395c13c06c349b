//! Reads one layer to its end: its entries to whoever merges them, the content of its files to
//! whoever writes it, and at last what the whole proved to be. Threads of `plan` call it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use deploy_spec::{Algorithm, Digest};

use super::{
    ArchiveError, AttributePattern, Dialect, LayerSource, LimitKind, Limits, Rule,
    contents::{Contents, NewFile},
    decode::{Content, Measured, Total, Wanted},
    error::escape,
    extended::ExtendedAttributes,
    growing::LayerFile,
    incoming::ContentId,
    measure::MeasuringReader,
    path::PathError,
    reader::{Entry, EntryKind, TarReader},
    tree::attributes,
    whiteout::is_whiteout,
};

/// How many entries are handed over at once.
const ENTRIES: usize = 256;
/// How many bytes of names and the like, whatever the number of entries.
const BYTES: usize = 64 << 10;

/// What readers and the merging of all layers share.
pub(super) struct Reading {
    pub(super) limits: Limits,
    /// The extended attributes that are taken over.
    pub(super) allowed: Vec<AttributePattern>,
    pub(super) total: Total,
    /// Set by the caller.
    pub(super) stop: Arc<AtomicBool>,
    /// Set when all is in vain.
    pub(super) abandoned: AtomicBool,
}

impl Reading {
    /// Sees to it that the entry is no larger than the plan takes, before it waits to be merged,
    /// and settles which of its extended attributes it keeps. Returns 1 where it loses some.
    fn settle(&self, entry: &mut Entry) -> Result<u64, ArchiveError> {
        let maximum = self.limits.name_bytes;
        if entry.name.len() as u64 > maximum {
            return Err(PathError::Limit(LimitKind::NameBytes, maximum).of(&entry.name));
        }
        if let EntryKind::HardLink { target } | EntryKind::Symlink { target } = &entry.kind
            && target.len() as u64 > maximum
        {
            return Err(ArchiveError::refused(&entry.name, Rule::TargetTooLong));
        }
        let found = std::mem::take(&mut entry.found);
        // Links have none that anybody may set, and further names have those of their file.
        if !matches!(entry.kind, EntryKind::File { .. } | EntryKind::Directory) {
            return Ok(u64::from(!found.is_empty()));
        }
        let maximum = self.limits.attribute_bytes;
        let (extended, are_all) =
            ExtendedAttributes::allowed(&entry.name, found, &self.allowed, maximum)?;
        entry.extended = extended;
        Ok(u64::from(!are_all))
    }
}

impl Entry {
    /// Returns about how many bytes it has beside those that every entry has.
    fn bytes(&self) -> usize {
        let target = match &self.kind {
            EntryKind::HardLink { target } | EntryKind::Symlink { target } => target.len(),
            _ => 0,
        };
        let extended = self
            .extended
            .as_ref()
            .map_or(0, |extended| extended.bytes());
        self.name.len() + target + usize::try_from(extended).unwrap_or(usize::MAX)
    }
}

/// What a layer's reader tells, in the order of the archive.
pub(super) enum Message {
    Entries(Vec<Entry>),
    /// The last one.
    End(Box<Result<Measured, ArchiveError>>),
}

/// A layer whose file is open: the one that is verified is the one that is unpacked.
pub(super) struct OpenLayer {
    source: LayerSource,
    file: LayerFile,
}

impl OpenLayer {
    pub(super) fn new(source: LayerSource, file: LayerFile) -> Self {
        Self { source, file }
    }

    /// Reads layer `index` to its end, hands its entries over to be merged, and returns what it
    /// proved to be.
    pub(super) fn read(
        &mut self,
        index: usize,
        reading: &Reading,
        contents: &mut impl Contents,
        mut merge: impl FnMut(Vec<Entry>) -> Result<(), ArchiveError>,
    ) -> Result<Measured, ArchiveError> {
        // One that grows is known by its digest.
        let found = self.file.size().map_err(ArchiveError::Read)?;
        if let (Some(expected), Some(found)) = (self.source.size, found)
            && expected != found
        {
            return Err(ArchiveError::Size { expected, found });
        }
        // A number that does not fit is the merger's to refuse.
        let layer = u16::try_from(index).unwrap_or(u16::MAX);
        let mut reader = self.reader(reading)?;
        let mut entries = Vec::with_capacity(ENTRIES);
        let mut bytes = 0;
        let mut passed_over = 0_u64;
        while let Some(mut entry) = reader.next()? {
            if reading.stop.load(Ordering::Relaxed) || reading.abandoned.load(Ordering::Relaxed) {
                return Err(ArchiveError::Interrupted);
            }
            let maximum = u64::from(u32::MAX);
            let ordinal = u32::try_from(reader.count() - 1).map_err(|_| ArchiveError::Limit {
                entry: escape(&entry.name),
                limit: LimitKind::Entries,
                maximum,
            })?;
            passed_over += reading.settle(&mut entry)?;
            if let EntryKind::File { size } = entry.kind
                && !is_whiteout(&entry.name)
                && let Ok(attributes) = attributes(&entry)
            {
                let file = NewFile {
                    content: ContentId { layer, ordinal },
                    size,
                    attributes,
                    extended: entry.extended.take(),
                };
                contents.take(&entry.name, file, &mut reader)?;
            }
            bytes += entry.bytes();
            entries.push(entry);
            if entries.len() == ENTRIES || bytes >= BYTES {
                bytes = 0;
                merge(std::mem::replace(&mut entries, Vec::with_capacity(ENTRIES)))?;
            }
        }
        merge(entries)?;
        contents.flush()?;
        let (content, end) = reader.finish()?;
        let (_, measured) = content.finish();
        self.source.verify(&measured)?;
        if end.trailing > 0 {
            tracing::warn!(
                layer = %self.source.name,
                bytes = end.trailing,
                "bytes that are no padding follow the end of the layer's archive; they are not unpacked"
            );
        }
        if passed_over > 0 {
            tracing::info!(
                layer = %self.source.name,
                entries = passed_over,
                "extended attributes that are not asked for are not taken over"
            );
        }
        Ok(measured)
    }

    /// Returns the error as one of this layer. Wrong bytes explain whatever they led to, and can
    /// be fetched again: where the layer has any, that is the error.
    pub(super) fn explain(&mut self, error: ArchiveError) -> ArchiveError {
        let error = match error {
            ArchiveError::Interrupted => return error,
            ArchiveError::Size { .. } | ArchiveError::Digest { .. } => error,
            error => self.check_digest().err().unwrap_or(error),
        };
        error.in_layer(&self.source.name)
    }

    /// Returns a reader of the layer's entries from its start, which hashes what it reads.
    fn reader(&mut self, reading: &Reading) -> Result<TarReader<&mut LayerFile>, ArchiveError> {
        self.file.rewind();
        let diff_id = self.source.diff_id.as_ref();
        let wanted = Wanted {
            digest: Some(self.source.digest.algorithm()),
            diff_id: diff_id.map_or(Algorithm::Sha256, Digest::algorithm),
        };
        let limits = reading.limits.clone();
        let total = reading.total.clone();
        let content = Content::open(&mut self.file, wanted, limits.clone(), total)?;
        Ok(TarReader::new(content, limits))
    }

    /// Hashes the file's bytes without looking into them.
    fn check_digest(&mut self) -> Result<(), ArchiveError> {
        self.file.rewind();
        let mut reader = MeasuringReader::new(&mut self.file, Some(self.source.digest.algorithm()));
        reader.drain().map_err(ArchiveError::Read)?;
        let (_, found) = reader.finish();
        match found {
            Some(found) if found != self.source.digest => Err(ArchiveError::Digest {
                expected: self.source.digest.clone(),
                found,
            }),
            _ => Ok(()),
        }
    }

    /// Returns how its entries are understood.
    pub(super) fn dialect(&self) -> Dialect {
        self.source.dialect
    }
}

impl LayerSource {
    /// Checks what was measured against what is promised.
    fn verify(&self, measured: &Measured) -> Result<(), ArchiveError> {
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
