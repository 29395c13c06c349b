//! Kinds of entries that are never unpacked, rights that are not given, and sizes beyond all measure.

use super::{
    Case, Outcome, Tar, accepted, refused,
    tar::{base_256, octal},
};

const SPARSE: &str = "it is a sparse file";
const CONTENT: &str = "it announces content that its type has not";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = special();
    cases.extend(sparse());
    cases.extend(numbers());
    cases
}

fn special() -> Vec<Case> {
    let one = |flag: u8| {
        [Tar::new()
            .file("before", "x")
            .entry(flag, "a", "", "", |_| {})]
    };
    let unknown = |flag: char| format!("its type `{flag}` is unknown");
    let mut cases: Vec<_> = [
        (
            "character-device",
            b'3',
            "it is a character device".to_owned(),
        ),
        ("block-device", b'4', "it is a block device".to_owned()),
        ("pipe", b'6', "it is a named pipe".to_owned()),
        ("unknown-type", b'Z', unknown('Z')),
        ("socket-of-some-writers", b's', unknown('s')),
        (
            "unknown-type-that-is-no-letter",
            0xfe,
            "its type `\\xfe` is unknown".to_owned(),
        ),
        ("volume-header", b'V', unknown('V')),
        ("continued-from-another-volume", b'M', unknown('M')),
        (
            "directory-listing-of-an-incremental-dump",
            b'D',
            unknown('D'),
        ),
        ("extended-header-of-solaris", b'X', unknown('X')),
    ]
    .map(|(name, flag, rule)| refused(name, one(flag), "a", &rule))
    .into();
    cases.extend([
        refused(
            "device-with-numbers",
            [Tar::new().entry(b'3', "null", "", "", |block| {
                octal(&mut block[329..337], 1);
                octal(&mut block[337..345], 3);
            })],
            "null",
            "it is a character device",
        ),
        refused(
            "overlay-whiteout",
            [
                Tar::new().file("a", "x"),
                Tar::new().entry(b'3', "a", "", "", |_| {}),
            ],
            "a",
            "it is a character device",
        ),
        refused(
            "device-with-content",
            [Tar::new().entry(b'4', "a", "", "x", |_| {})],
            "a",
            CONTENT,
        ),
        refused(
            "pipe-under-a-pax-name",
            [Tar::new()
                .pax(&[("path", "long")])
                .entry(b'6', "a", "", "", |_| {})],
            "long",
            "it is a named pipe",
        ),
        refused(
            "directory-with-content",
            [Tar::new().entry(b'5', "a", "", "x", |_| {})],
            "a",
            CONTENT,
        ),
        refused(
            "directory-by-its-slash-with-content",
            [Tar::new().file("a/", "x")],
            "a/",
            CONTENT,
        ),
        accepted(
            "kinds-of-files-that-are-files",
            [Tar::new()
                .entry(0, "old", "", "1", |_| {})
                .entry(b'7', "contiguous", "", "2", |_| {})
                .entry(0, "directory/", "", "", |block| {
                    octal(&mut block[100..108], 0o755)
                })],
            &["old=1", "contiguous=2", "directory/"],
        ),
        accepted(
            "rights-of-others-are-not-given",
            [Tar::new()
                .entry(b'0', "f", "", "x", |block| {
                    octal(&mut block[100..108], 0o6755)
                })
                .entry(b'5', "d", "", "", |block| {
                    octal(&mut block[100..108], 0o1777)
                })
                .entry(b'5', "g", "", "", |block| {
                    octal(&mut block[100..108], 0o2755)
                })],
            &["f=x", "d/ 777", "g/"],
        ),
        accepted(
            "kinds-hidden-in-the-mode-are-not-taken",
            [Tar::new().entry(b'0', "f", "", "x", |block| {
                octal(&mut block[100..108], 0o020644)
            })],
            &["f=x"],
        ),
        accepted(
            "directories-that-may-not-be-written-are-filled",
            [Tar::new()
                .entry(b'5', "d", "", "", |block| {
                    octal(&mut block[100..108], 0o500)
                })
                .file("d/f", "x")
                .entry(b'5', "d/e", "", "", |block| octal(&mut block[100..108], 0))
                .file("d/e/f", "x")],
            &["d/ 500", "d/f=x", "d/e/ 0", "d/e/f=x"],
        ),
    ]);
    cases
}

fn sparse() -> Vec<Case> {
    // A map with the mark that another block of it follows.
    let map = |goes_on: u8| {
        let mut map = [0; 512];
        map[504] = goes_on;
        map
    };
    vec![
        refused(
            "sparse-of-gnu",
            [Tar::new().entry(b'S', "a", "", "", |_| {})],
            "a",
            SPARSE,
        ),
        refused(
            "sparse-of-gnu-with-maps",
            [Tar::new()
                .entry(b'S', "a", "", "", |block| block[482] = 1)
                .block(&map(1))
                .block(&map(0))
                .file("../secret", "x")],
            "a",
            SPARSE,
        ),
        refused(
            "sparse-of-gnu-huge",
            [Tar::new().entry(b'S', "a", "", "", |block| {
                base_256(&mut block[483..495], 1 << 60)
            })],
            "a",
            SPARSE,
        ),
        refused(
            "sparse-in-pax-0",
            [Tar::new()
                .pax(&[
                    ("GNU.sparse.size", "1000000000000"),
                    ("GNU.sparse.numblocks", "1"),
                    ("GNU.sparse.offset", "0"),
                    ("GNU.sparse.numbytes", "1"),
                ])
                .file("a", "x")],
            "a",
            SPARSE,
        ),
        refused(
            "sparse-in-pax-1",
            [Tar::new()
                .pax(&[
                    ("GNU.sparse.major", "1"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.realsize", "1000000000000"),
                    ("GNU.sparse.name", "real"),
                ])
                .file("GNUSparseFile.0/a", "1\n0\n1\nx")],
            "GNUSparseFile.0/a",
            SPARSE,
        ),
        refused(
            "sparse-of-star",
            [Tar::new()
                .pax(&[("SCHILY.realsize", "1000000000000")])
                .file("a", "x")],
            "a",
            SPARSE,
        ),
        refused(
            "sparse-name-of-a-directory",
            [Tar::new()
                .pax(&[("GNU.sparse.name", "../new")])
                .directory("a")],
            "a",
            SPARSE,
        ),
        refused(
            "sparse-name-of-a-link",
            [Tar::new()
                .pax(&[("GNU.sparse.name", "../new")])
                .symbolic_link("a", "x")],
            "a",
            SPARSE,
        ),
    ]
}

fn numbers() -> Vec<Case> {
    let size = |change: fn(&mut [u8])| {
        [Tar::new().entry(b'0', "a", "", "", |block| change(&mut block[124..136]))]
    };
    let bad = |what: &str| format!("its {what} is no number in range");
    let part = |name: &str| Tar::new().file(name, "x".repeat(800 << 10));
    let mut over_layers = refused(
        "more-bytes-than-the-flag-over-layers",
        [part("a"), part("b"), part("c")],
        "",
        "",
    )
    .with("max-unpacked", "2MiB");
    // Whichever layer it is that gets there.
    let told = "passes the limit of 2097152 unpacked bytes".to_owned();
    over_layers.outcome = Outcome::Refused(vec![told]);
    vec![
        refused(
            "size-beyond-all-disks",
            size(|field| base_256(field, 1 << 62)),
            "a",
            "passes the limit of 549755813888 unpacked bytes",
        ),
        refused(
            "size-beyond-all-disks-in-pax",
            [Tar::new()
                .pax(&[("size", "9223372036854775808")])
                .file("a", "")],
            "a",
            "passes the limit of 549755813888 unpacked bytes",
        ),
        refused(
            "size-beyond-all-numbers",
            size(|field| base_256(field, 1 << 64)),
            "a",
            &bad("size"),
        ),
        refused(
            "size-beyond-all-numbers-in-pax",
            [Tar::new()
                .pax(&[("size", "18446744073709551616")])
                .file("a", "")],
            "PaxHeader",
            &bad("size"),
        ),
        refused(
            "size-below-nothing",
            size(|field| base_256(field, -1)),
            "a",
            &bad("size"),
        ),
        refused(
            "size-below-nothing-in-pax",
            [Tar::new().pax(&[("size", "-1")]).file("a", "")],
            "PaxHeader",
            &bad("size"),
        ),
        refused(
            "size-of-no-digits",
            size(|field| field.fill(b'9')),
            "a",
            &bad("size"),
        ),
        refused(
            "size-with-something-behind-it",
            size(|field| field.copy_from_slice(b"1 1\0\0\0\0\0\0\0\0\0")),
            "a",
            &bad("size"),
        ),
        refused(
            "owner-that-means-nobody-changes",
            [Tar::new().entry(b'0', "a", "", "x", |block| {
                base_256(&mut block[108..116], u32::MAX.into())
            })],
            "a",
            &bad("owner"),
        ),
        refused(
            "owner-beyond-all-owners",
            [Tar::new().entry(b'0', "a", "", "x", |block| {
                base_256(&mut block[108..116], 1 << 32)
            })],
            "a",
            &bad("owner"),
        ),
        refused(
            "owner-below-nobody",
            [Tar::new().entry(b'0', "a", "", "x", |block| {
                base_256(&mut block[108..116], -2)
            })],
            "a",
            &bad("owner"),
        ),
        refused(
            "group-beyond-all-groups-in-pax",
            [Tar::new().pax(&[("gid", "4294967296")]).file("a", "x")],
            "a",
            &bad("group"),
        ),
        refused(
            "mode-of-no-digits",
            [Tar::new().entry(b'0', "a", "", "x", |block| block[100] = b'x')],
            "a",
            &bad("mode"),
        ),
        refused(
            "time-of-no-digits-in-pax",
            [Tar::new().pax(&[("mtime", "soon")]).file("a", "x")],
            "PaxHeader",
            &bad("time"),
        ),
        refused(
            "more-entries-than-the-flag",
            [
                Tar::new().file("a", ""),
                Tar::new().file("b", "").file("c", "").file("d", ""),
            ],
            "d",
            "passes the limit of 3 entries",
        )
        .with("max-entries", "3"),
        refused(
            "more-directories-than-entries",
            [Tar::new().file("a", "").file("b/c/d/e", "")],
            "b/c/d/e",
            "passes the limit of 4 entries",
        )
        .with("max-entries", "4"),
        refused(
            "more-bytes-than-the-flag",
            [Tar::new()
                .file("small", "x")
                .file("large", "x".repeat(3 << 20))],
            "large",
            "passes the limit of 2097152 unpacked bytes",
        )
        .with("max-unpacked", "2MiB"),
        over_layers,
        accepted(
            "size-in-binary",
            [Tar::new()
                .entry(b'0', "a", "", "abc", |block| {
                    base_256(&mut block[124..136], 3)
                })
                .file("b", "x")],
            &["a=abc", "b=x"],
        ),
        accepted(
            "size-in-pax-wins",
            [Tar::new()
                .pax(&[("size", "3")])
                .entry(b'0', "a", "", "abc", |block| octal(&mut block[124..136], 0))
                .file("b", "x")],
            &["a=abc", "b=x"],
        ),
        accepted(
            "times-are-brought-into-range",
            [Tar::new()
                .pax(&[("mtime", "-5.5")])
                .file("before-time", "")
                .entry(b'0', "before-time-in-binary", "", "", |block| {
                    base_256(&mut block[136..148], -5)
                })
                .pax(&[("mtime", "99999999999999999999999999")])
                .file("after-all-time", "")
                .entry(b'5', "after-all-time-in-binary", "", "", |block| {
                    base_256(&mut block[136..148], 1 << 80)
                })
                .pax(&[("mtime", "1234.000000250999")])
                .file("fine", "")
                .pax(&[("mtime", "0.5")])
                .symbolic_link("half", "x")],
            &[
                "before-time= @0",
                "before-time-in-binary= @0",
                // The last second that this file system keeps.
                "after-all-time= @LAST",
                "after-all-time-in-binary/ @LAST",
                "fine= @1234.000000250",
                "half->x @0.500000000",
            ],
        ),
    ]
}
