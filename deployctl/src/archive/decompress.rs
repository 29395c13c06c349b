//! The decompression of a layer, between the hashing of both its sides. Used by `decode`.

use std::io::{self, Read};

use deploy_spec::{Digest, media_type::Compression};
use flate2::bufread::MultiGzDecoder;

use super::measure::MeasuringReader;

/// The window that decoders must support (RFC 8878 §3.1.1.1.2 recommends 8 MiB; `--long`
/// makes 128 MiB): more is refused, since it is memory that the archive asks for.
const ZSTD_WINDOW_LOG: u32 = 27;

/// What is known of a layer whose bytes were read, and not all of its content.
pub(super) struct Stored {
    pub(super) compression: Compression,
    /// Absent where it was not wanted.
    pub(super) digest: Option<Digest>,
    pub(super) size: u64,
}

/// Decompresses what it reads: every gzip member, every zstd frame.
pub(super) enum Decoder<R: Read> {
    None(Box<MeasuringReader<R>>),
    Gzip(Box<MultiGzDecoder<MeasuringReader<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, MeasuringReader<R>>>),
}

impl<R: Read> Decoder<R> {
    /// Reads `source` from its beginning, which is compressed in this way.
    pub(super) fn new(source: MeasuringReader<R>, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(Box::new(source)),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    /// Returns how the input is compressed.
    pub(super) fn compression(&self) -> Compression {
        match self {
            Self::None(_) => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }

    /// Returns what is read from, as far as it was.
    pub(super) fn source(&self) -> &MeasuringReader<R> {
        match self {
            Self::None(source) => source,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        }
    }

    /// Returns what is read from, for whoever wants no more of its content.
    pub(super) fn source_mut(&mut self) -> &mut MeasuringReader<R> {
        match self {
            Self::None(source) => source,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }

    /// Returns the input, and what was read of it.
    pub(super) fn finish(self) -> (R, Stored) {
        let compression = self.compression();
        let source = match self {
            Self::None(source) => *source,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        };
        let size = source.size();
        let (input, digest) = source.finish();
        let stored = Stored {
            compression,
            digest,
            size,
        };
        (input, stored)
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(source) => source.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}
