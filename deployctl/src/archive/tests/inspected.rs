//! What `inspect` says of finished archives, good and bad.

use std::io::Write;

use deploy_spec::{Digest, media_type::Compression};

use super::{
    super::{ArchiveError, Inspected, inspect},
    Tar,
};

fn tar() -> Vec<u8> {
    Tar::new()
        .directory("d")
        .file("d/a", &"content ".repeat(1000))
        .finish()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn expected(compression: Compression, archive: &[u8]) -> Inspected {
    Inspected {
        compression,
        diff_id: Digest::sha256(&tar()),
        unpacked_size: tar().len() as u64,
        digest: Digest::sha256(archive),
        size: archive.len() as u64,
        entries: 2,
    }
}

#[test]
fn archives_are_measured_whatever_their_compression() {
    let skippable = [
        &[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..],
        &zstd(&tar()),
    ]
    .concat();
    let table = [
        (Compression::None, tar()),
        (Compression::Gzip, gzip(&tar())),
        (Compression::Zstd, zstd(&tar())),
        (
            Compression::Gzip,
            [gzip(&tar()[..700]), gzip(&tar()[700..])].concat(),
        ),
        (
            Compression::Zstd,
            [zstd(&tar()[..700]), zstd(&tar()[700..])].concat(),
        ),
        (Compression::Zstd, skippable),
    ];
    for (compression, archive) in table {
        assert_eq!(
            inspect(&archive[..]).unwrap(),
            expected(compression, &archive)
        );
    }
}

#[test]
fn padding_of_any_length_is_part_of_the_archive() {
    let mut padded = tar();
    padded.resize(10240 * 3, 0);
    assert_eq!(inspect(&padded[..]).unwrap().unpacked_size, 30720);
    let empty = [0; 1024];
    assert_eq!(inspect(&empty[..]).unwrap().entries, 0);
}

#[test]
fn what_is_no_whole_archive_is_refused() {
    type Check = fn(&ArchiveError) -> bool;
    let not_a_tar: Check = |error| matches!(error, ArchiveError::NotATar(_));
    let truncated: Check = |error| matches!(error, ArchiveError::Truncated { .. });
    let damaged: Check = |error| matches!(error, ArchiveError::Damaged { .. });
    let empty: Check = |error| matches!(error, ArchiveError::Empty);
    let trailing: Check = |error| matches!(error, ArchiveError::Trailing { count: 7 });
    let mut flipped = gzip(&tar());
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let table: Vec<(&str, Vec<u8>, Check)> = vec![
        ("empty", vec![], empty),
        ("gzip of nothing", gzip(b""), empty),
        ("text", b"hello\n".to_vec(), not_a_tar),
        ("long text", b"hello\n".repeat(1000), not_a_tar),
        ("gzip of text", gzip(&b"hello\n".repeat(1000)), not_a_tar),
        ("xz", b"\xfd7zXZ\0\0\0".to_vec(), not_a_tar),
        ("zip", b"PK\x03\x04....".to_vec(), not_a_tar),
        (
            "without its end",
            Tar::new().file("a", "x").unfinished(),
            truncated,
        ),
        ("cut in the content", tar()[..3000].to_vec(), truncated),
        ("cut in a header", tar()[..700].to_vec(), truncated),
        ("truncated gzip", gzip(&tar())[..100].to_vec(), truncated),
        (
            "truncated gzip trailer",
            gzip(&tar())[..gzip(&tar()).len() - 2].to_vec(),
            truncated,
        ),
        ("truncated zstd", zstd(&tar())[..60].to_vec(), truncated),
        (
            "gzip and text",
            [gzip(&tar()), b"hello there, this is text".to_vec()].concat(),
            damaged,
        ),
        (
            "zstd and text",
            [zstd(&tar()), b"hello there, this is text".to_vec()].concat(),
            damaged,
        ),
        ("flipped bit", flipped, |error| {
            matches!(
                error,
                ArchiveError::Damaged { .. } | ArchiveError::Truncated { .. }
            )
        }),
        (
            "tar and text",
            [tar(), b"trailer".to_vec()].concat(),
            trailing,
        ),
        (
            "extension without an entry",
            Tar::new().pax(&[("path", "x")]).unfinished(),
            truncated,
        ),
    ];
    for (what, archive, check) in table {
        let error = inspect(&archive[..]).expect_err(what);
        assert!(check(&error), "{what}: {error:?}");
    }
}

#[test]
fn every_cut_of_every_kind_is_noticed() {
    for archive in [
        Tar::new().file("a", "content").finish(),
        gzip(&Tar::new().file("a", "content").finish()),
        zstd(&Tar::new().file("a", "content").finish()),
    ] {
        // A plain archive is whole from the first block of zeros on.
        let end = if archive[0] == b'a' {
            512 + 512 + 512
        } else {
            archive.len()
        };
        for length in 0..end {
            assert!(
                inspect(&archive[..length]).is_err(),
                "{length} of {}",
                archive.len()
            );
        }
    }
}

#[test]
fn what_is_in_an_archive_is_not_judged() {
    let mut map = vec![0; 1024];
    map[504] = 1;
    let sparse = Tar::new().raw(b'S', b"sparse", b"", b"", |header| {
        header.as_mut_bytes()[482] = 1;
    });
    // The map's further blocks stand before the content, and the size does not count them.
    let sparse = [sparse.unfinished(), map].concat();
    let table = [
        Tar::new().file("../escape", "x").finish(),
        Tar::new().file("/etc/passwd", "x").finish(),
        Tar::new().raw(b'3', b"null", b"", b"", |_| {}).finish(),
        Tar::new().raw(b'6', b"pipe", b"", b"", |_| {}).finish(),
        Tar::new().raw(b'Z', b"x", b"", b"content", |_| {}).finish(),
        Tar::new()
            .pax(&[("GNU.sparse.major", "1")])
            .file("x", "content")
            .finish(),
        [sparse, vec![0; 1024]].concat(),
    ];
    for archive in table {
        assert_eq!(inspect(&archive[..]).unwrap().entries, 1);
    }
}
