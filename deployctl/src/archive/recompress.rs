//! The same archive, compressed otherwise. For importers; what is in it is not looked at.

use std::io::{Read, Write};

use deploy_spec::{Algorithm, Digest, media_type::Compression};

use super::{
    ArchiveError, Limits,
    decode::{Content, Total, Wanted},
    encode::Encoder,
    measure::MeasuringWriter,
};

const BUFFER: usize = 128 << 10;

/// Some bytes that were compressed otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recompressed {
    /// Digest of the bytes that were read, by the algorithm that was asked for.
    pub source: Digest,
    /// SHA-256 of the bytes written.
    pub digest: Digest,
    /// How many bytes were written.
    pub size: u64,
    /// SHA-256 of the uncompressed bytes.
    pub diff_id: Digest,
    /// How many uncompressed bytes there are.
    pub unpacked_size: u64,
}

/// Writes to `output` what `input` is, be it plain, gzip or zstd, compressed as wanted, each
/// with one fixed setting: the same bytes always give the same bytes. Memory is bounded.
///
/// The uncompressed bytes stay as they are; whether they are a tar archive is not asked.
///
/// # Errors
/// [`ArchiveError::Empty`], [`ArchiveError::NotATar`] for other compressions,
/// [`ArchiveError::Truncated`], [`ArchiveError::Damaged`], [`ArchiveError::Limit`] for what
/// unpacks to absurdly more than it is, [`ArchiveError::Read`], [`ArchiveError::Write`].
pub fn recompress(
    input: impl Read,
    source: Algorithm,
    output: impl Write,
    compression: Compression,
) -> Result<Recompressed, ArchiveError> {
    let limits = Limits {
        bytes: u64::MAX,
        ..Limits::default()
    };
    let wanted = Wanted {
        digest: Some(source),
        diff_id: Algorithm::Sha256,
    };
    let mut content = Content::open(input, wanted, limits, Total::default())?;
    let output = MeasuringWriter::new(output);
    let mut encoder = Encoder::new(output, compression).map_err(ArchiveError::Write)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = content.fill(&mut buffer, b"(whole archive)")?;
        encoder
            .write_all(&buffer[..count])
            .map_err(ArchiveError::Write)?;
        if count < buffer.len() {
            break;
        }
    }
    let (_, measured) = content.finish();
    let mut output = encoder.finish().map_err(ArchiveError::Write)?;
    output.flush().map_err(ArchiveError::Write)?;
    let (_, digest, size) = output.finish();
    Ok(Recompressed {
        source: measured.digest.expect("a digest was wanted"),
        digest,
        size,
        diff_id: measured.diff_id,
        unpacked_size: measured.unpacked_size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_every_change_of_compression() {
        let plain: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let compressions = [Compression::None, Compression::Gzip, Compression::Zstd];
        for from in compressions {
            let mut input = Vec::new();
            recompress(&plain[..], Algorithm::Sha256, &mut input, from).unwrap();
            for to in compressions {
                let [mut once, mut again] = [Vec::new(), Vec::new()];
                let made = recompress(&input[..], Algorithm::Sha256, &mut once, to).unwrap();
                recompress(&input[..], Algorithm::Sha256, &mut again, to).unwrap();
                assert_eq!(once, again);
                assert_eq!(Compression::sniff(&once), to);
                assert_eq!(made.source, Digest::sha256(&input));
                assert_eq!(made.digest, Digest::sha256(&once));
                assert_eq!(made.size, once.len() as u64);
                assert_eq!(made.diff_id, Digest::sha256(&plain));
                assert_eq!(made.unpacked_size, plain.len() as u64);
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let mut whole = Vec::new();
        let plain = vec![7; 1 << 20];
        recompress(&plain[..], Algorithm::Sha256, &mut whole, Compression::Gzip).unwrap();
        let cut = &whole[..whole.len() - 3];
        let result = recompress(cut, Algorithm::Sha256, std::io::sink(), Compression::Zstd);
        assert!(matches!(result, Err(ArchiveError::Truncated { .. })));
    }
}
