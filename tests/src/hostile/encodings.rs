//! Archives that are damaged, cut off, in pieces, or have something behind their end.

use std::io::Write;

use super::{Case, Tar, refused, unpacked, unreadable};
use crate::archive::{gzip, zstd};

pub(super) fn cases(outside: &str) -> Vec<Case> {
    let good = || Tar::new().file("a", "content").file("b", "x");
    let bytes = good().end();
    let tree = ["a=content", "b=x"];
    let at = |bytes: &[u8], change: fn(&mut [u8])| {
        let mut bytes = bytes.to_vec();
        change(&mut bytes);
        bytes
    };
    let (first, rest) = bytes.split_at(700);
    let bad_end = Tar::new().file("../secret", "x").end();
    let mut cases = vec![
        unreadable(
            "checksum-that-is-wrong",
            at(&bytes, |bytes| bytes[0] = b'z'),
            "it does not start with a header",
        ),
        unreadable(
            "checksum-that-is-wrong-later",
            at(&bytes, |bytes| bytes[1024] = b'z'),
            "no header where one should be, behind `a`",
        ),
        unreadable(
            "checksum-of-no-digits",
            at(&bytes, |bytes| bytes[148..156].fill(b'x')),
            "it does not start with a header",
        ),
        unreadable("empty-file", Vec::new(), "the file is empty"),
        unreadable("empty-gzip", gzip(b""), "the file is empty"),
        unreadable("empty-zstd", zstd(b""), "the file is empty"),
        unreadable(
            "less-than-a-block",
            bytes[..511].to_vec(),
            "it is only 511 bytes",
        ),
        unreadable(
            "cut-off-in-a-header",
            bytes[..1024 + 100].to_vec(),
            "cut off after 1124 bytes",
        ),
        unreadable(
            "cut-off-in-a-file",
            bytes[..512 + 3].to_vec(),
            "cut off after 515 bytes",
        ),
        unreadable(
            "cut-off-behind-a-long-name",
            Tar::new().gnu_name("a").unfinished(),
            "cut off after 1024 bytes",
        ),
        unreadable(
            "cut-off-behind-a-pax-header",
            Tar::new().pax(&[("path", "a")]).end(),
            "cut off after 1536 bytes",
        ),
        unreadable("cut-off-gzip", at_length(&gzip(&bytes), -6), "cut off"),
        unreadable("cut-off-zstd", at_length(&zstd(&bytes), -3), "cut off"),
        unreadable(
            "gzip-with-a-wrong-sum",
            at(&gzip(&bytes), |bytes| {
                let sum = bytes.len() - 8;
                bytes[sum] ^= 1;
            }),
            "the archive is damaged",
        ),
        unreadable(
            "gzip-with-something-behind-it",
            [gzip(&bytes), b"something that is no gzip member".to_vec()].concat(),
            "the archive is damaged",
        ),
        unreadable(
            "zstd-with-something-behind-it",
            [zstd(&bytes), b"something".to_vec()].concat(),
            "the archive is damaged",
        ),
        unreadable("gzip-within-gzip", gzip(&gzip(&bytes)), "not a tar archive"),
        unreadable("xz", b"\xfd7zXZ\0 and more".to_vec(), "it is xz"),
        unreadable(
            "zstd-that-wants-too-much-memory",
            wide_window(&bytes),
            "the archive is damaged",
        ),
        unpacked(
            "checksum-of-signed-bytes",
            vec![signed_checksum()],
            &["\\xff=x"],
        ),
        unpacked(
            "several-gzip-members",
            vec![[gzip(first), gzip(b""), gzip(rest)].concat()],
            &tree,
        ),
        unpacked(
            "several-zstd-frames",
            vec![[zstd(first), zstd(rest)].concat()],
            &tree,
        ),
        unpacked(
            "zstd-frames-with-one-to-pass-over",
            vec![[zstd(first), skippable(), zstd(rest), skippable()].concat()],
            &tree,
        ),
        unpacked("without-an-end", vec![good().unfinished()], &tree),
        unpacked(
            "without-an-end-and-padding",
            vec![good().unfinished()[..1024 + 512 + 1].to_vec()],
            &tree,
        ),
        unpacked(
            "much-padding",
            vec![[bytes.clone(), vec![0; 20 << 10]].concat()],
            &tree,
        ),
        unpacked(
            "archive-behind-the-end",
            vec![[bytes.clone(), bad_end.clone()].concat()],
            &tree,
        ),
        unpacked(
            "archive-behind-the-end-in-another-member",
            vec![[gzip(&bytes), gzip(&bad_end)].concat()],
            &tree,
        ),
        unpacked(
            "bytes-behind-the-end",
            vec![[bytes.clone(), b"something".to_vec()].concat()],
            &tree,
        ),
        unpacked("nothing-but-an-end", vec![Tar::new().end()], &[]),
    ];
    let escape = Tar::new()
        .file("a", "x")
        .file("../secret", "x")
        .file(format!("{outside}/secret"), "x")
        .end();
    let (first, rest) = escape.split_at(1300);
    for (name, layer) in [
        (
            "way-out-in-the-second-member",
            [gzip(first), gzip(rest)].concat(),
        ),
        (
            "way-out-in-the-second-frame",
            [zstd(first), zstd(rest)].concat(),
        ),
    ] {
        let mut case = refused(name, [], "../secret", "its name has `..` in it");
        case.layers.push(layer);
        cases.push(case);
    }
    let mut bomb = refused(
        "bomb",
        [],
        "bomb",
        "passes the limit of 100 unpacked bytes for one packed",
    )
    .with("max-ratio", "100")
    .with("ratio-floor", "1MiB");
    bomb.layers
        .push(gzip(&Tar::new().file("bomb", vec![0; 8 << 20]).end()));
    cases.push(bomb);
    cases
}

/// Cut by so many bytes.
fn at_length(bytes: &[u8], less: isize) -> Vec<u8> {
    bytes[..bytes.len().saturating_add_signed(less)].to_vec()
}

/// A frame that is no part of the content (RFC 8878 §3.1.2).
fn skippable() -> Vec<u8> {
    [
        &0x184d_2a50_u32.to_le_bytes()[..],
        &5_u32.to_le_bytes(),
        b"notes",
    ]
    .concat()
}

/// A frame whose header asks for a window of 2 GiB.
fn wide_window(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("the level exists");
    encoder.window_log(31).expect("the window exists");
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
}

/// A header whose checksum some very old writers would have made: of signed bytes.
fn signed_checksum() -> Vec<u8> {
    let mut bytes = Tar::new().file(b"\xff", "x").end();
    bytes[148..156].fill(b' ');
    let sum: i64 = bytes[..512]
        .iter()
        .map(|byte| i64::from(byte.cast_signed()))
        .sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}
