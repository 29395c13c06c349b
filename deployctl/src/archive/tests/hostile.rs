//! Archives that must be refused: one row for each rule of safe unpacking. Nothing is written
//! for any of them, inside the root or outside.

use proptest::prelude::*;

use super::{
    super::{ArchiveError, LimitKind, Limits, Rule, UnpackOptions},
    Place, Tar, listing,
};

fn refusal(archives: &[Vec<u8>], options: &UnpackOptions) -> ArchiveError {
    let place = Place::new();
    let error = place.unpack(archives, options).expect_err("it is refused");
    assert_eq!(
        listing(&place.root()),
        Vec::<String>::new(),
        "{error}: something was written"
    );
    assert_eq!(
        std::fs::read(place.path().join("outside")).unwrap(),
        b"untouched"
    );
    assert_eq!(
        std::fs::read_dir(place.path()).unwrap().count(),
        2 + archives.len(),
        "{error}"
    );
    error
}

#[test]
fn entries_that_break_a_rule_are_refused_before_anything_is_written() {
    let sparse = |tar: Tar| tar.raw(b'S', b"sparse", b"", b"", |_| {});
    let table: Vec<(&str, Tar, Rule)> = vec![
        (
            "parent",
            Tar::new().file("../outside", "x"),
            Rule::ParentDirectory,
        ),
        (
            "parent within",
            Tar::new().file("a/../../outside", "x"),
            Rule::ParentDirectory,
        ),
        (
            "parent as directory",
            Tar::new().directory("a/.."),
            Rule::ParentDirectory,
        ),
        ("absolute", Tar::new().file("/outside", "x"), Rule::Absolute),
        (
            "absolute directory",
            Tar::new().directory("/etc"),
            Rule::Absolute,
        ),
        ("empty name", Tar::new().file("", "x"), Rule::EmptyName),
        (
            "NUL in a long name",
            Tar::new()
                .raw(b'L', b"././@LongLink", b"", b"a\0b\0", |_| {})
                .file("a", "x"),
            Rule::Nul,
        ),
        (
            "NUL in a PAX name",
            Tar::new().pax(&[("path", "a\0b")]).file("a", "x"),
            Rule::Nul,
        ),
        (
            "root as a file",
            Tar::new().file("./.", "x"),
            Rule::RootNotDirectory,
        ),
        (
            "root as a link",
            Tar::new().symlink("./", "/"),
            Rule::RootNotDirectory,
        ),
        (
            "through a link",
            Tar::new().symlink("a", "..").file("a/outside", "x"),
            Rule::ThroughSymlink("a".into()),
        ),
        (
            "through an absolute link",
            Tar::new().symlink("a", "/tmp").directory("a/b"),
            Rule::ThroughSymlink("a".into()),
        ),
        (
            "through two links",
            Tar::new()
                .directory("d")
                .symlink("d/a", ".")
                .symlink("d/a/b", ".."),
            Rule::ThroughSymlink("a".into()),
        ),
        (
            "through a file",
            Tar::new().file("a", "x").file("a/b", "y"),
            Rule::ThroughFile("a".into()),
        ),
        (
            "whiteout through a link",
            Tar::new().symlink("a", "..").file("a/.wh.outside", ""),
            Rule::ThroughSymlink("a".into()),
        ),
        (
            "opaque through a link",
            Tar::new().symlink("a", "..").file("a/.wh..wh..opq", ""),
            Rule::ThroughSymlink("a".into()),
        ),
        (
            "hard link outside",
            Tar::new().link("a", "../outside"),
            Rule::HardLinkOutside("../outside".into()),
        ),
        (
            "hard link to an absolute name",
            Tar::new().link("a", "/etc/passwd"),
            Rule::HardLinkOutside("/etc/passwd".into()),
        ),
        (
            "hard link to nothing",
            Tar::new().link("a", "b"),
            Rule::HardLinkTarget("b".into()),
        ),
        (
            "hard link forwards",
            Tar::new().link("a", "b").file("b", "x"),
            Rule::HardLinkTarget("b".into()),
        ),
        (
            "hard link to itself",
            Tar::new().link("a", "a"),
            Rule::HardLinkTarget("a".into()),
        ),
        (
            "hard link to a directory",
            Tar::new().directory("d").link("a", "d"),
            Rule::HardLinkTarget("d".into()),
        ),
        (
            "hard link to the root",
            Tar::new().link("a", "."),
            Rule::HardLinkTarget(".".into()),
        ),
        (
            "hard link to a symbolic link",
            Tar::new().symlink("s", "../outside").link("a", "s"),
            Rule::HardLinkTarget("s".into()),
        ),
        (
            "hard link through a symbolic link",
            Tar::new().symlink("s", "..").link("a", "s/outside"),
            Rule::ThroughSymlink("s".into()),
        ),
        (
            "symbolic link to nothing",
            Tar::new().symlink("a", ""),
            Rule::EmptyTarget,
        ),
        (
            "character device",
            Tar::new().raw(b'3', b"null", b"", b"", |_| {}),
            Rule::Special("character device"),
        ),
        (
            "block device",
            Tar::new().raw(b'4', b"sda", b"", b"", |_| {}),
            Rule::Special("block device"),
        ),
        (
            "pipe",
            Tar::new().raw(b'6', b"pipe", b"", b"", |_| {}),
            Rule::Special("named pipe"),
        ),
        ("GNU sparse", sparse(Tar::new()), Rule::Sparse),
        (
            "PAX sparse",
            Tar::new().pax(&[("GNU.sparse.major", "1")]).file("a", "x"),
            Rule::Sparse,
        ),
        (
            "unknown type",
            Tar::new().raw(b'Z', b"a", b"", b"", |_| {}),
            Rule::UnknownType(b'Z'),
        ),
        (
            "volume header",
            Tar::new().raw(b'V', b"a", b"", b"", |_| {}),
            Rule::UnknownType(b'V'),
        ),
        (
            "link with content",
            Tar::new()
                .file("a", "x")
                .raw(b'1', b"b", b"a", b"content", |_| {}),
            Rule::UnexpectedContent,
        ),
        (
            "directory with content",
            Tar::new().raw(b'5', b"d", b"", b"content", |_| {}),
            Rule::UnexpectedContent,
        ),
        (
            "PAX and GNU name",
            Tar::new()
                .pax(&[("path", "a")])
                .raw(b'L', b"l", b"", b"b\0", |_| {})
                .file("c", "x"),
            Rule::MixedExtensions,
        ),
        (
            "two PAX headers",
            Tar::new()
                .pax(&[("path", "a")])
                .pax(&[("path", "b")])
                .file("c", "x"),
            Rule::MixedExtensions,
        ),
        (
            "damaged PAX",
            Tar::new()
                .raw(b'x', b"p", b"", b"99 path=a\n", |_| {})
                .file("c", "x"),
            Rule::BadRecord,
        ),
        (
            "global path",
            Tar::new().records(b'g', &[("path", "a")]).file("c", "x"),
            Rule::GlobalRecord("path".into()),
        ),
        (
            "global size",
            Tar::new().records(b'g', &[("size", "1")]).file("c", "x"),
            Rule::GlobalRecord("size".into()),
        ),
        (
            "no number",
            Tar::new().raw(b'0', b"a", b"", b"", |header| {
                header.as_mut_bytes()[124..136].fill(b'9')
            }),
            Rule::BadNumber("size"),
        ),
        (
            "owner out of range",
            Tar::new().raw(b'0', b"a", b"", b"", |header| {
                header.set_uid(u64::from(u32::MAX))
            }),
            Rule::BadNumber("owner"),
        ),
        (
            "PAX owner out of range",
            Tar::new().pax(&[("gid", "4294967296")]).file("a", ""),
            Rule::BadNumber("group"),
        ),
        (
            "whiteout of nothing",
            Tar::new().file("a/.wh.", ""),
            Rule::BadWhiteout,
        ),
        (
            "whiteout of the directory",
            Tar::new().file("a/.wh..", ""),
            Rule::BadWhiteout,
        ),
        (
            "whiteout upwards",
            Tar::new().file("a/.wh...", ""),
            Rule::BadWhiteout,
        ),
        (
            "whiteout as a directory",
            Tar::new().directory(".wh.a"),
            Rule::BadWhiteout,
        ),
        (
            "below a whiteout",
            Tar::new().file(".wh.a/b", "x"),
            Rule::BadWhiteout,
        ),
    ];
    for (what, tar, expected) in table {
        // In a second layer too, after a harmless first one.
        for archives in [
            vec![tar.clone().finish()],
            vec![Tar::new().file("z", "z").finish(), tar.finish()],
        ] {
            let error = refusal(&archives, &UnpackOptions::default());
            match error.cause() {
                ArchiveError::Refused { rule, .. } => assert_eq!(*rule, expected, "{what}"),
                other => panic!("{what}: {other:?}"),
            }
        }
    }
}

#[test]
fn links_of_a_lower_layer_are_not_followed_either() {
    for upper in [
        Tar::new().file("a/outside", "x"),
        Tar::new().directory("a/b"),
        Tar::new().file("a/.wh.outside", ""),
    ] {
        let lower = Tar::new().symlink("a", "..");
        let error = refusal(&[lower.finish(), upper.finish()], &UnpackOptions::default());
        let expected = Rule::ThroughSymlink("a".into());
        assert!(
            matches!(error.cause(), ArchiveError::Refused { rule, .. } if *rule == expected),
            "{error:?}"
        );
    }
}

#[test]
fn limits_name_the_entry() {
    let deep = "d/".repeat(9);
    let zeros = "\0".repeat(3 << 20);
    let table: Vec<(LimitKind, Tar, &str)> = vec![
        (
            LimitKind::Entries,
            Tar::new()
                .file("a", "")
                .file("b", "")
                .file("c", "")
                .file("d", ""),
            "d",
        ),
        (LimitKind::Depth, Tar::new().directory(&deep), &deep),
        (LimitKind::Bytes, Tar::new().file("large", &zeros), "large"),
        (
            LimitKind::NameBytes,
            Tar::new().pax(&[("path", &"n/".repeat(60))]).file("x", ""),
            "n/n/",
        ),
        (
            LimitKind::ComponentBytes,
            Tar::new().pax(&[("path", &"n".repeat(21))]).file("x", ""),
            "nnn",
        ),
        (
            LimitKind::ExtensionBytes,
            Tar::new()
                .pax(&[("comment", &"n".repeat(2000))])
                .file("x", ""),
            "PaxHeader",
        ),
    ];
    let limits = Limits {
        entries: 3,
        depth: 8,
        bytes: 2 << 20,
        name_bytes: 100,
        component_bytes: 20,
        extension_bytes: 1024,
        ..Limits::default()
    };
    for (expected, tar, name) in table {
        let options = UnpackOptions {
            limits: limits.clone(),
            ..UnpackOptions::default()
        };
        let error = refusal(&[tar.finish()], &options);
        match error.cause() {
            ArchiveError::Limit { entry, limit, .. } => {
                assert_eq!(*limit, expected);
                assert!(entry.starts_with(name), "{entry}");
            }
            other => panic!("{expected:?}: {other:?}"),
        }
    }
}

#[test]
fn a_bomb_stops_at_its_ratio() {
    use std::io::Write;
    let zeros = "\0".repeat(8 << 20);
    let tar = Tar::new().file("bomb", &zeros).finish();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&tar).unwrap();
    let bomb = encoder.finish().unwrap();
    let limits = Limits {
        ratio: 100,
        ratio_floor: 1 << 20,
        ..Limits::default()
    };
    let options = UnpackOptions {
        limits,
        ..UnpackOptions::default()
    };
    let error = refusal(&[bomb], &options);
    assert!(
        matches!(
            error.cause(),
            ArchiveError::Limit {
                limit: LimitKind::Ratio,
                maximum: 100,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn wrong_bytes_are_told_from_wrong_archives() {
    let place = Place::new();
    let good = Tar::new().file("a", "content").finish();
    let mut layers = place.layers(&[good]);
    let mut damaged = std::fs::read(&layers[0].path).unwrap();
    // In the header, so that it could as well be a refusal.
    damaged[0] = b'/';
    std::fs::write(&layers[0].path, &damaged).unwrap();
    let options = UnpackOptions::default();
    let error = super::unpack(&layers, &place.root(), &options).unwrap_err();
    assert!(error.is_wrong_content(), "{error:?}");
    damaged.pop();
    std::fs::write(&layers[0].path, &damaged).unwrap();
    let error = super::unpack(&layers, &place.root(), &options).unwrap_err();
    assert!(
        matches!(error.cause(), ArchiveError::Size { .. }),
        "{error:?}"
    );
    std::fs::write(&layers[0].path, Tar::new().file("a", "content").finish()).unwrap();
    layers[0].diff_id = Some(deploy_spec::Digest::sha256(b"something else"));
    let error = super::unpack(&layers, &place.root(), &options).unwrap_err();
    assert!(
        matches!(error.cause(), ArchiveError::DiffId { .. }),
        "{error:?}"
    );
    assert_eq!(listing(&place.root()), Vec::<String>::new());
}

/// Every kind of entry and extension, twice over.
fn everything() -> Vec<u8> {
    let once = |tar: Tar| {
        tar.directory("d")
            .file("d/a", "content of a")
            .link("d/hard", "d/a")
            .symlink("s", "d/a")
            .pax(&[("path", "a longer name"), ("mtime", "12.5")])
            .file("short", "x")
            .raw(b'L', b"././@LongLink", b"", b"a long name\0", |_| {})
            .file("short", "y")
            .records(b'g', &[("comment", "z")])
            .file(".wh.gone", "")
            .file("d/.wh..wh..opq", "")
    };
    once(once(Tar::new())).finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Bytes are changed and the header's checksum is made good again, so that the change gets
    /// past the door.
    #[test]
    fn changed_archives_neither_panic_nor_reach_outside(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..512, any::<u8>()), 1..6),
        names in proptest::collection::vec((any::<prop::sample::Index>(), "[./a-d]{1,12}"), 0..3),
    ) {
        let mut archive = everything();
        let blocks = archive.len() / 512;
        let mut change = |block: usize, edit: &dyn Fn(&mut [u8])| {
            let block = &mut archive[block * 512..][..512];
            edit(block);
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        };
        for (block, at, value) in changes {
            change(block.index(blocks), &|block| block[at] = value);
        }
        for (block, name) in names {
            change(block.index(blocks), &|block| {
                block[..100].fill(0);
                block[..name.len()].copy_from_slice(name.as_bytes());
            });
        }
        let place = Place::new();
        drop(super::super::inspect(&archive[..]));
        drop(place.unpack(&[Tar::new().symlink("d", "..").finish(), archive.clone()], &UnpackOptions::default()));
        let place = Place::new();
        drop(place.unpack(&[archive], &UnpackOptions::default()));
        prop_assert_eq!(std::fs::read(place.path().join("outside")).unwrap(), b"untouched");
        prop_assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 3);
    }
}
