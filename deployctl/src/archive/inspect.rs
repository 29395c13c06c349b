//! What a finished archive is, proved by reading all of it. For verbs that take an archive
//! as it is.

use std::io::Read;

use deploy_spec::{Algorithm, Digest, media_type::Compression};

use super::{
    ArchiveError, Limits,
    decode::{Content, Total, Wanted},
    decompress::Stored,
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

/// How far into an archive is looked whose digest is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// To its first entry, which tells a tar archive from anything else. What is not compressed is
    /// looked at to its end, since all of its bytes are read anyway.
    Beginning,
    /// To its end.
    End,
}

/// An archive that is one, as far as it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// How it is compressed.
    pub compression: Compression,
    /// Digest of its bytes.
    pub digest: Digest,
    /// How many bytes there are.
    pub size: u64,
    /// What its uncompressed bytes are, where it was looked at to its end.
    pub uncompressed: Option<Uncompressed>,
}

/// The uncompressed bytes of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncompressed {
    /// Their digest.
    pub diff_id: Digest,
    /// How many there are.
    pub size: u64,
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
    let (inspected, end) = read_all(open(input, Algorithm::Sha256, Algorithm::Sha256)?)?;
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

/// Reads an archive whose digests are known to its end, by these algorithms: of the bytes as they
/// are, and of the uncompressed ones. Memory is bounded whatever its size.
///
/// Its content is looked at to a `depth`. The end mark may be missing, which some builders of
/// images leave out, and anything may follow it, as when such an archive is unpacked.
///
/// # Errors
/// As [`inspect`] as far as it looks, without the two that an archive of another digest has.
pub fn inspect_known(
    input: impl Read,
    digest: Algorithm,
    diff_id: Algorithm,
    depth: Depth,
) -> Result<Known, ArchiveError> {
    let mut reader = open(input, digest, diff_id)?;
    let compression = reader.compression();
    if depth == Depth::End || compression == Compression::None {
        let (inspected, _) = read_all(reader)?;
        return Ok(Known {
            compression: inspected.compression,
            digest: inspected.digest,
            size: inspected.size,
            uncompressed: Some(Uncompressed {
                diff_id: inspected.diff_id,
                size: inspected.unpacked_size,
            }),
        });
    }
    reader.next()?;
    let Stored { digest, size, .. } = reader.into_content().leave()?;
    Ok(Known {
        compression,
        digest: digest.expect("a digest was wanted"),
        size,
        uncompressed: None,
    })
}

fn open<R: Read>(
    input: R,
    digest: Algorithm,
    diff_id: Algorithm,
) -> Result<TarReader<R>, ArchiveError> {
    let limits = Limits {
        bytes: u64::MAX,
        ..Limits::default()
    };
    let wanted = Wanted {
        digest: Some(digest),
        diff_id,
    };
    let content = Content::open(input, wanted, limits.clone(), Total::default())?;
    Ok(TarReader::new(content, limits))
}

fn read_all(mut reader: TarReader<impl Read>) -> Result<(Inspected, End), ArchiveError> {
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
    use crate::archive::recompress;

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
            let known = inspect_known(bytes, sha256, sha512, Depth::Beginning).unwrap();
            assert_eq!(known.digest, Digest::sha256(bytes));
            assert_eq!(
                known.uncompressed.unwrap().diff_id,
                Digest::of(sha512, bytes)
            );
            assert_eq!(inspect(bytes).is_ok(), length == whole.len());
        }
        let cut = inspect_known(&whole[..514], sha256, sha256, Depth::Beginning);
        assert!(matches!(cut, Err(ArchiveError::Truncated { .. })));
    }

    #[test]
    fn what_is_compressed_is_looked_at_as_deep_as_wanted() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, "file", &content[..])
            .unwrap();
        let plain = builder.into_inner().unwrap();
        let look = |bytes: &[u8], depth| {
            let sha256 = Algorithm::Sha256;
            inspect_known(bytes, sha256, sha256, depth)
        };
        for compression in [Compression::Gzip, Compression::Zstd] {
            let packed = |bytes: &[u8]| {
                let mut packed = Vec::new();
                recompress(bytes, Algorithm::Sha256, &mut packed, compression).unwrap();
                packed
            };
            let whole = packed(&plain);
            let uncompressed = Uncompressed {
                diff_id: Digest::sha256(&plain),
                size: plain.len() as u64,
            };
            for (depth, uncompressed) in
                [(Depth::Beginning, None), (Depth::End, Some(uncompressed))]
            {
                let known = look(&whole, depth).unwrap();
                let expected = Known {
                    compression,
                    digest: Digest::sha256(&whole),
                    size: whole.len() as u64,
                    uncompressed,
                };
                assert_eq!(known, expected);
            }
            // Its own digest is right: nothing but its content tells.
            let cut = &whole[..whole.len() / 2];
            let known = look(cut, Depth::Beginning).unwrap();
            assert_eq!(known.digest, Digest::sha256(cut));
            let refused = look(cut, Depth::End).unwrap_err();
            assert!(matches!(refused, ArchiveError::Truncated { .. }));
            for depth in [Depth::Beginning, Depth::End] {
                let refused = look(&packed(&content), depth).unwrap_err();
                assert!(matches!(refused, ArchiveError::NotATar(_)), "{refused}");
                let refused = look(&packed(&plain[..100]), depth).unwrap_err();
                assert!(matches!(refused, ArchiveError::NotATar(_)), "{refused}");
            }
        }
    }
}
