//! What a finished archive is, proved by reading all of it. For verbs that take an archive
//! as it is.

use std::io::Read;

use deploy_spec::{Algorithm, Digest, media_type::Compression};

use super::{
    ArchiveError, Limits,
    decode::{Content, Total, Wanted},
    reader::TarReader,
};

/// An archive that was read to its end and is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// How it is compressed.
    pub compression: Compression,
    /// Digest of its uncompressed bytes, SHA-256 unless asked for otherwise.
    pub diff_id: Digest,
    /// How many uncompressed bytes there are.
    pub unpacked_size: u64,
    /// Digest of its bytes, SHA-256 unless asked for otherwise.
    pub digest: Digest,
    /// How many bytes there are.
    pub size: u64,
    /// How many entries it has, duplicates and whiteouts included.
    pub entries: u64,
}

/// Reads an archive to its end and returns what it is. All gzip members and zstd frames
/// belong to it. Memory is bounded whatever its size.
///
/// What is in it is not judged: an archive with devices is one, and other clients may want
/// it. Whoever unpacks decides what it takes.
///
/// # Errors
/// [`ArchiveError::Empty`], [`ArchiveError::NotATar`], [`ArchiveError::Truncated`] (also where
/// the block of zeros at its end is missing), [`ArchiveError::Damaged`],
/// [`ArchiveError::Trailing`], [`ArchiveError::Refused`] for headers that readers would not
/// agree about.
pub fn inspect(input: impl Read) -> Result<Inspected, ArchiveError> {
    inspect_by(input, Algorithm::Sha256, Algorithm::Sha256)
}

/// As [`inspect`], with digests of other algorithms: of the bytes as they are, and of the
/// uncompressed ones.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_by(
    input: impl Read,
    digest: Algorithm,
    diff_id: Algorithm,
) -> Result<Inspected, ArchiveError> {
    let limits = Limits {
        bytes: u64::MAX,
        ..Limits::default()
    };
    let wanted = Wanted {
        digest: Some(digest),
        diff_id,
    };
    let content = Content::open(input, wanted, limits.clone(), Total::default())?;
    let mut reader = TarReader::new(content, limits);
    while reader.next()?.is_some() {}
    let entries = reader.count();
    let (content, end) = reader.finish()?;
    if !end.marked {
        return Err(ArchiveError::Truncated {
            position: content.position(),
        });
    }
    if end.trailing > 0 {
        return Err(ArchiveError::Trailing {
            count: end.trailing,
        });
    }
    let (_, measured) = content.finish();
    Ok(Inspected {
        compression: measured.compression,
        diff_id: measured.diff_id,
        unpacked_size: measured.unpacked_size,
        digest: measured.digest.expect("a digest was wanted"),
        size: measured.size,
        entries,
    })
}
