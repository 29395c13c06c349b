//! What a finished archive is, proved by reading all of it. For verbs that take an archive
//! as it is.

use std::io::Read;

use deploy_spec::{Algorithm, Digest, media_type::Compression};

use super::{
    ArchiveError, Limits,
    decode::{Content, Total, Wanted},
    reader::{End, TarReader},
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
    let (inspected, end) = examine(input, Algorithm::Sha256, Algorithm::Sha256)?;
    if !end.marked {
        return Err(ArchiveError::Truncated {
            position: inspected.unpacked_size,
        });
    }
    if end.trailing > 0 {
        return Err(ArchiveError::Trailing {
            count: end.trailing,
        });
    }
    Ok(inspected)
}

/// As [`inspect`], of an archive whose digests are known, by these algorithms: of the bytes as they
/// are, and of the uncompressed ones. There the end mark may be missing, which some builders of
/// images leave out, and anything may follow it, as when such an archive is unpacked.
///
/// # Errors
/// As [`inspect`], without the two that an archive of another digest has.
pub fn inspect_known(
    input: impl Read,
    digest: Algorithm,
    diff_id: Algorithm,
) -> Result<Inspected, ArchiveError> {
    examine(input, digest, diff_id).map(|(inspected, _)| inspected)
}

fn examine(
    input: impl Read,
    digest: Algorithm,
    diff_id: Algorithm,
) -> Result<(Inspected, End), ArchiveError> {
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
    let (_, measured) = content.finish();
    let inspected = Inspected {
        compression: measured.compression,
        diff_id: measured.diff_id,
        unpacked_size: measured.unpacked_size,
        digest: measured.digest.expect("a digest was wanted"),
        size: measured.size,
        entries,
    };
    Ok((inspected, end))
}

#[cfg(test)]
mod tests {
    use deploy_spec::Digest;

    use super::*;

    #[test]
    fn a_known_archive_may_end_without_its_mark() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(4);
        (builder.append_data(&mut header, "file", &b"one\n"[..])).unwrap();
        let whole = builder.into_inner().unwrap();
        let (sha256, sha512) = (Algorithm::Sha256, Algorithm::Sha512);
        for length in [516, 1024, whole.len()] {
            let bytes = &whole[..length];
            let inspected = inspect_known(bytes, sha256, sha512).unwrap();
            assert_eq!(inspected.digest, Digest::sha256(bytes));
            assert_eq!(inspected.diff_id, Digest::of(sha512, bytes));
            assert_eq!(inspect(bytes).is_ok(), length == whole.len());
        }
        let cut = inspect_known(&whole[..514], sha256, sha256);
        assert!(matches!(cut, Err(ArchiveError::Truncated { .. })));
    }
}
