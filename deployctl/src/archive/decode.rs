//! The uncompressed content of a layer, hashed on both sides of the decompression and
//! within the limits. `reader` parses what comes out.

use std::{
    io::{self, BufRead, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use deploy_spec::{Algorithm, Digest, media_type::Compression};

use super::{
    ArchiveError, LimitKind, Limits,
    decompress::{Decoder, Stored},
    measure::MeasuringReader,
};

/// Archives that people take for tar archives, by their first bytes.
const OTHER_FORMATS: [(&[u8], &str); 5] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x04\x22\x4d\x18", "lz4"),
];

/// Counts the uncompressed bytes of all layers together. Clones count as one.
#[derive(Clone, Debug, Default)]
pub(super) struct Total(Arc<AtomicU64>);

/// Which hashes are wanted of a layer.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// Of the bytes as they are; none where they need not be hashed again.
    pub(super) digest: Option<Algorithm>,
    /// Of the uncompressed bytes.
    pub(super) diff_id: Algorithm,
}

/// What a layer proved to be, once it was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) compression: Compression,
    /// Absent where it was not wanted.
    pub(super) digest: Option<Digest>,
    pub(super) size: u64,
    pub(super) diff_id: Digest,
    pub(super) unpacked_size: u64,
}

/// Reads the uncompressed bytes of a layer: every gzip member, every zstd frame.
pub(super) struct Content<R: Read> {
    reader: MeasuringReader<Decoder<R>>,
    position: u64,
    total: Total,
    limits: Limits,
}

impl<R: Read> Content<R> {
    /// Looks at the first bytes of `input` and starts to decompress it. What comes out is added
    /// to `total`.
    pub(super) fn open(
        input: R,
        wanted: Wanted,
        limits: Limits,
        total: Total,
    ) -> Result<Self, ArchiveError> {
        let mut source = MeasuringReader::new(input, wanted.digest);
        let first = source.fill_buf().map_err(ArchiveError::Read)?;
        if first.is_empty() {
            return Err(ArchiveError::Empty);
        }
        if let Some((_, name)) = OTHER_FORMATS
            .iter()
            .find(|(magic, _)| first.starts_with(magic))
        {
            return Err(ArchiveError::NotATar(format!("it is {name}")));
        }
        let compression = Compression::sniff(first);
        // The same bytes and the same algorithm give the same digest.
        let is_known = compression == Compression::None && wanted.digest == Some(wanted.diff_id);
        let decoder = Decoder::new(source, compression).map_err(ArchiveError::Read)?;
        let reader = MeasuringReader::new(decoder, (!is_known).then_some(wanted.diff_id));
        Ok(Self {
            reader,
            position: 0,
            total,
            limits,
        })
    }

    /// Returns how many uncompressed bytes have been read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Fills `buffer` as far as there are bytes; fewer mean the end.
    ///
    /// `entry` is named in the error when a limit is passed.
    pub(super) fn fill(&mut self, buffer: &mut [u8], entry: &[u8]) -> Result<usize, ArchiveError> {
        let mut filled = 0;
        self.each(buffer.len() as u64, entry, |ready| {
            buffer[filled..][..ready.len()].copy_from_slice(ready);
            filled += ready.len();
        })?;
        Ok(filled)
    }

    /// Reads `length` bytes, as far as there are any, and returns how many it was.
    pub(super) fn pass_over(&mut self, length: u64, entry: &[u8]) -> Result<u64, ArchiveError> {
        self.each(length, entry, |_| {})
    }

    /// Reads to the end of all members and frames and returns how many of the bytes left were
    /// not zero; padding is zeros.
    pub(super) fn drain(&mut self) -> Result<u64, ArchiveError> {
        let mut other = 0;
        self.each(u64::MAX, b"(after the end)", |ready| {
            other += ready.iter().filter(|byte| **byte != 0).count() as u64;
        })?;
        Ok(other)
    }

    /// Shows the next `length` bytes, as far as there are any, and returns how many it was.
    fn each(
        &mut self,
        length: u64,
        entry: &[u8],
        mut show: impl FnMut(&[u8]),
    ) -> Result<u64, ArchiveError> {
        let mut left = length;
        while left > 0 {
            let ready = match self.reader.fill_buf() {
                Ok(ready) => ready,
                Err(error) => return Err(self.failed(error)),
            };
            if ready.is_empty() {
                break;
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(ready.len());
            show(&ready[..count]);
            self.reader.consume(count);
            left -= count as u64;
            self.position += count as u64;
            let total = &self.total.0;
            let total = total.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
            self.check(total, entry)?;
        }
        Ok(length - left)
    }

    /// Returns how the input is compressed.
    pub(super) fn compression(&self) -> Compression {
        self.reader.get_ref().compression()
    }

    /// Returns the input and what it proved to be; to be called at the end.
    pub(super) fn finish(self) -> (R, Measured) {
        let unpacked_size = self.reader.size();
        let (decoder, diff_id) = self.reader.finish();
        let (input, stored) = decoder.finish();
        let diff_id = diff_id.or_else(|| stored.digest.clone());
        let measured = Measured {
            compression: stored.compression,
            digest: stored.digest,
            size: stored.size,
            diff_id: diff_id.expect("the bytes were hashed on one side at least"),
            unpacked_size,
        };
        (input, measured)
    }

    /// Reads the input to its end, without decompressing what is left of it.
    pub(super) fn leave(self) -> Result<Stored, ArchiveError> {
        let (mut decoder, _) = self.reader.finish();
        decoder.source_mut().drain().map_err(ArchiveError::Read)?;
        Ok(decoder.finish().1)
    }

    fn check(&self, total: u64, entry: &[u8]) -> Result<(), ArchiveError> {
        let limits = &self.limits;
        let packed = self.reader.get_ref().source().size();
        let passed = if total > limits.bytes {
            Some((LimitKind::Bytes, limits.bytes))
        } else if self.position > limits.ratio_floor
            && self.position > packed.saturating_mul(limits.ratio)
        {
            Some((LimitKind::Ratio, limits.ratio))
        } else {
            None
        };
        match passed {
            None => Ok(()),
            Some((limit, maximum)) => Err(ArchiveError::Limit {
                entry: super::error::escape(entry),
                limit,
                maximum,
            }),
        }
    }

    /// Tells a cut-off archive, a damaged one, and a disk that cannot be read apart.
    fn failed(&self, error: io::Error) -> ArchiveError {
        let is_compressed = self.compression() != Compression::None;
        if error.raw_os_error().is_some() || !is_compressed {
            ArchiveError::Read(error)
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            ArchiveError::Truncated {
                position: self.position,
            }
        } else {
            ArchiveError::Damaged {
                position: self.position,
                reason: error.to_string(),
            }
        }
    }
}
