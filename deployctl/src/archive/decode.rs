//! The uncompressed content of a layer, hashed on both sides of the decompression and
//! within the limits. `reader` parses what comes out.

use std::{
    io::{self, BufReader, Chain, Cursor, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use deploy_spec::{Algorithm, Digest, Hasher, media_type::Compression};
use flate2::bufread::MultiGzDecoder;

use super::{
    ArchiveError, LimitKind, Limits,
    measure::{Counter, MeasuringReader},
};

/// How much is read at once: large enough that system calls vanish beside the hashing.
const BUFFER: usize = 128 << 10;
/// The window that decoders must support (RFC 8878 §3.1.1.1.2 recommends 8 MiB; `--long`
/// makes 128 MiB): more is refused, since it is memory that the archive asks for.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Archives that people take for tar archives, by their first bytes.
const OTHER_FORMATS: [(&[u8], &str); 5] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x04\x22\x4d\x18", "lz4"),
];

type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, MeasuringReader<R>>>;

enum Decoder<R: Read> {
    None(Box<Source<R>>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Source<R>>>),
}

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
    decoder: Decoder<R>,
    hasher: Hasher,
    wanted: Wanted,
    packed: Counter,
    unpacked: u64,
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
        let mut input = MeasuringReader::new(input, wanted.digest);
        let packed = input.counter();
        let mut first = Vec::new();
        (&mut input)
            .take(6)
            .read_to_end(&mut first)
            .map_err(ArchiveError::Read)?;
        if first.is_empty() {
            return Err(ArchiveError::Empty);
        }
        let compression = Compression::sniff(&first);
        if let Some((_, name)) = OTHER_FORMATS
            .iter()
            .find(|(magic, _)| first.starts_with(magic))
        {
            return Err(ArchiveError::NotATar(format!("it is {name}")));
        }
        let source = BufReader::with_capacity(BUFFER, Cursor::new(first).chain(input));
        let decoder = match compression {
            Compression::None => Decoder::None(Box::new(source)),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(source).map_err(ArchiveError::Read)?;
                decoder
                    .window_log_max(ZSTD_WINDOW_LOG)
                    .map_err(ArchiveError::Read)?;
                Decoder::Zstd(Box::new(decoder))
            }
        };
        Ok(Self {
            decoder,
            hasher: Hasher::new(wanted.diff_id),
            wanted,
            packed,
            unpacked: 0,
            total,
            limits,
        })
    }

    /// Returns how many uncompressed bytes have been read.
    pub(super) fn position(&self) -> u64 {
        self.unpacked
    }

    /// Fills `buffer` as far as there are bytes; fewer mean the end.
    ///
    /// `entry` is named in the error when a limit is passed.
    pub(super) fn fill(&mut self, buffer: &mut [u8], entry: &[u8]) -> Result<usize, ArchiveError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let result = match &mut self.decoder {
                Decoder::None(reader) => reader.read(&mut buffer[filled..]),
                Decoder::Gzip(reader) => reader.read(&mut buffer[filled..]),
                Decoder::Zstd(reader) => reader.read(&mut buffer[filled..]),
            };
            match result {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        if self.hashes_twice() {
            self.hasher.update(&buffer[..filled]);
        }
        self.unpacked += filled as u64;
        let total = self.total.0.fetch_add(filled as u64, Ordering::Relaxed) + filled as u64;
        self.check(total, entry)?;
        Ok(filled)
    }

    /// Reads to the end of all members and frames and returns how many of the bytes left were
    /// not zero; padding is zeros.
    pub(super) fn drain(&mut self) -> Result<u64, ArchiveError> {
        let mut buffer = vec![0; BUFFER];
        let mut other = 0;
        loop {
            let count = self.fill(&mut buffer, b"(after the end)")?;
            other += buffer[..count].iter().filter(|byte| **byte != 0).count() as u64;
            if count < buffer.len() {
                return Ok(other);
            }
        }
    }

    /// Returns the input and what it proved to be; to be called at the end.
    pub(super) fn finish(self) -> (R, Measured) {
        let twice = self.hashes_twice();
        let (compression, source) = match self.decoder {
            Decoder::None(source) => (Compression::None, *source),
            Decoder::Gzip(decoder) => (Compression::Gzip, decoder.into_inner()),
            Decoder::Zstd(decoder) => (Compression::Zstd, decoder.finish()),
        };
        let (_, input) = source.into_inner().into_inner();
        let (input, digest) = input.finish();
        let diff_id = match &digest {
            Some(digest) if !twice => digest.clone(),
            _ => self.hasher.finish(),
        };
        let measured = Measured {
            compression,
            digest,
            size: self.packed.get(),
            diff_id,
            unpacked_size: self.unpacked,
        };
        (input, measured)
    }

    /// Whether the uncompressed bytes are hashed for themselves: not where they are the same
    /// bytes and the same algorithm.
    fn hashes_twice(&self) -> bool {
        !matches!(self.decoder, Decoder::None(_)) || self.wanted.digest != Some(self.wanted.diff_id)
    }

    fn check(&self, total: u64, entry: &[u8]) -> Result<(), ArchiveError> {
        let limits = &self.limits;
        let passed = if total > limits.bytes {
            Some((LimitKind::Bytes, limits.bytes))
        } else if self.unpacked > limits.ratio_floor
            && self.unpacked > self.packed.get().saturating_mul(limits.ratio)
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
        let compressed = !matches!(self.decoder, Decoder::None(_));
        if error.raw_os_error().is_some() || !compressed {
            ArchiveError::Read(error)
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            ArchiveError::Truncated {
                position: self.unpacked,
            }
        } else {
            ArchiveError::Damaged {
                position: self.unpacked,
                reason: error.to_string(),
            }
        }
    }
}
