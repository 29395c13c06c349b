//! What stands on the disk after unpacking: metadata, links, and nothing that was there before.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
};

use super::{
    super::{ArchiveError, Ownership, SpecialBits, UnpackOptions},
    Place, Tar, listing,
};

#[test]
fn modes_and_times_are_the_archives_own() {
    let place = Place::new();
    let tar = Tar::new()
        .raw(b'5', b"./", b"", b"", |header| header.set_mode(0o750))
        .raw(b'5', b"d", b"", b"", |header| {
            header.set_mode(0o500);
            header.set_mtime(7)
        })
        .raw(b'0', b"d/f", b"", b"x", |header| {
            header.set_mode(0o640);
            header.set_mtime(9)
        })
        .pax(&[("mtime", "-5.5")])
        .file("old", "x")
        .pax(&[("mtime", "1234.000000250")])
        .file("fine", "x")
        .pax(&[("mtime", "99999999999999999999")])
        .file("far", "x")
        .symlink("s", "d")
        .link("hard", "d/f");
    let found = place
        .unpack(&[tar.finish()], &UnpackOptions::default())
        .unwrap();
    assert_eq!(
        (
            found.directories,
            found.files,
            found.hard_links,
            found.symlinks,
            found.bytes
        ),
        (1, 4, 1, 1, 4)
    );
    let lines = listing(&place.root()).join("\n");
    for expected in [
        "d/ 500 @7",
        "d/f 640 @9 ",
        "old 644 @0 ",
        "fine 644 @1234 ",
        "s -> d @1500000000",
        "hard 640 @9 ",
    ] {
        assert!(lines.contains(expected), "{expected}: {lines}");
    }
    let at = |name: &str| fs::symlink_metadata(place.root().join(name)).unwrap();
    assert_eq!(at("fine").mtime_nsec(), 250);
    assert_eq!(at("d/f").ino(), at("hard").ino());
    assert_eq!(at(".").mode() & 0o7777, 0o750);
    assert!(at("far").mtime() > 4_000_000_000);
}

#[test]
fn special_bits_are_stripped_unless_they_are_kept() {
    let tar = Tar::new()
        .raw(b'0', b"s", b"", b"x", |header| header.set_mode(0o6755))
        .raw(b'5', b"t", b"", b"", |header| header.set_mode(0o1777));
    for (special_bits, expected) in [
        (SpecialBits::Strip, ["s 755", "t/ 777"]),
        (SpecialBits::Keep, ["s 6755", "t/ 1777"]),
    ] {
        let place = Place::new();
        let options = UnpackOptions {
            special_bits,
            ..UnpackOptions::default()
        };
        place.unpack(&[tar.clone().finish()], &options).unwrap();
        for (line, expected) in listing(&place.root()).iter().zip(expected) {
            assert!(line.starts_with(expected), "{line}");
        }
    }
}

#[test]
fn owners_are_the_archives_where_that_is_allowed() {
    let tar = || {
        let foreign = |header: &mut tar::Header| {
            header.set_uid(1234);
            header.set_gid(4321);
        };
        Tar::new()
            .raw(b'0', b"f", b"", b"x", foreign)
            .raw(b'2', b"s", b"f", b"", foreign)
            .raw(b'5', b"d", b"", b"", foreign)
    };
    let me = rustix::process::geteuid();
    for ownership in [Ownership::Process, Ownership::Archive] {
        if ownership == Ownership::Archive && !me.is_root() {
            continue;
        }
        let place = Place::new();
        let options = UnpackOptions {
            ownership,
            ..UnpackOptions::default()
        };
        place.unpack(&[tar().finish()], &options).unwrap();
        let expected = if ownership == Ownership::Archive {
            1234
        } else {
            me.as_raw()
        };
        for name in ["f", "s", "d"] {
            assert_eq!(
                fs::symlink_metadata(place.root().join(name)).unwrap().uid(),
                expected,
                "{name}"
            );
        }
    }
}

/// `cap_net_bind_service`, effective and permitted, as the kernel keeps it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn with_capability(value: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    super::super::emit::push_record(&mut records, b"SCHILY.xattr.security.capability", value);
    let foreign = |header: &mut tar::Header| {
        header.set_mode(0o555);
        header.set_uid(1234)
    };
    let tar = Tar::new().raw(b'x', b"PaxHeader", b"", &records, |_| {});
    tar.raw(b'0', b"program", b"", b"x", foreign).finish()
}

#[test]
fn capabilities_are_set_when_they_are_named_and_stay_when_files_are_given_away() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for (patterns, expected) in [
        (&[][..], Err(rustix::io::Errno::NODATA)),
        (&["user.*", "trusted.*"], Err(rustix::io::Errno::NODATA)),
        (&["security.capability"], Ok(CAPABILITY.len())),
    ] {
        let place = Place::new();
        let options = UnpackOptions {
            extended_attributes: patterns.iter().map(|one| one.parse().unwrap()).collect(),
            ..UnpackOptions::default()
        };
        place
            .unpack(&[with_capability(&CAPABILITY)], &options)
            .unwrap();
        let path = place.root().join("program");
        let mut value = [0; 64];
        let found = rustix::fs::getxattr(&path, "security.capability", &mut value[..]);
        assert_eq!(found, expected, "{patterns:?}");
        if expected.is_ok() {
            assert_eq!(value[..CAPABILITY.len()], CAPABILITY);
        }
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (1234, 0o555));
        assert_eq!(metadata.mtime(), 1_500_000_000);
    }
}

#[test]
fn attribute_that_cannot_be_set_is_an_error_that_names_it_and_the_entry() {
    // No such value is one, whoever asks.
    let archive = with_capability(b"rights");
    let place = Place::new();
    let options = UnpackOptions {
        extended_attributes: vec!["security.capability".parse().unwrap()],
        ownership: Ownership::Process,
        ..UnpackOptions::default()
    };
    let error = place.unpack(&[archive], &options).unwrap_err();
    match &error {
        ArchiveError::Attribute { name, entry, .. } => assert_eq!(
            (name.as_str(), entry.as_str()),
            ("security.capability", "program")
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_an_empty_directory_is_filled() {
    let place = Place::new();
    fs::write(place.root().join("there"), "x").unwrap();
    let archives = [Tar::new().file("a", "x").finish()];
    let error = place
        .unpack(&archives, &UnpackOptions::default())
        .unwrap_err();
    assert!(matches!(error, ArchiveError::NotEmpty(_)), "{error}");
    fs::remove_file(place.root().join("there")).unwrap();
    fs::remove_dir(place.root()).unwrap();
    symlink(".", place.root()).unwrap();
    let error = place
        .unpack(&archives, &UnpackOptions::default())
        .unwrap_err();
    assert!(matches!(error, ArchiveError::Io { .. }), "{error}");
}

#[test]
fn unpacking_stops_when_it_is_told_to() {
    let place = Place::new();
    let options = UnpackOptions::default();
    options
        .stop
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let error = place
        .unpack(&[Tar::new().file("a", "x").finish()], &options)
        .unwrap_err();
    assert!(matches!(error, ArchiveError::Interrupted), "{error}");
    assert_eq!(listing(&place.root()), Vec::<String>::new());
}

#[test]
fn archives_without_an_end_unpack_and_what_follows_one_is_left_alone() {
    for archive in [
        Tar::new().file("a", "x").unfinished(),
        Tar::new().file("a", "x").unfinished()[..513].to_vec(),
        [
            Tar::new().file("a", "x").finish(),
            Tar::new().file("b", "x").finish(),
        ]
        .concat(),
    ] {
        let place = Place::new();
        place.unpack(&[archive], &UnpackOptions::default()).unwrap();
        assert_eq!(listing(&place.root()).len(), 1);
    }
}

/// Around what is handed to a writer at once: small files share it, large ones are cut by it.
#[test]
fn content_of_every_size_arrives_whole_from_several_layers() {
    const BATCH: usize = 256 << 10;
    let place = Place::new();
    let sizes = [
        0,
        1,
        511,
        512,
        513,
        BATCH - 1,
        BATCH,
        BATCH + 1,
        3 * BATCH + 7,
    ];
    let content = |layer: usize, size: usize| -> String {
        let letters = "abcdefghijklmnopqrstuvwxyz".chars().cycle();
        letters.skip(layer + size).take(size).collect()
    };
    let archive = |layer: usize| {
        let tar = (0..60).fold(Tar::new(), |tar, at| {
            let size = sizes[at % sizes.len()];
            tar.file(&format!("{layer}/{at}"), &content(layer, size))
        });
        tar.file("last", &layer.to_string()).finish()
    };
    let archives: Vec<_> = (0..4).map(archive).collect();
    let found = place.unpack(&archives, &UnpackOptions::default()).unwrap();
    assert_eq!((found.files, found.directories), (4 * 60 + 1, 4));
    for layer in 0..4 {
        for at in 0..60 {
            let path = place.root().join(format!("{layer}/{at}"));
            let expected = content(layer, sizes[at % sizes.len()]);
            assert!(fs::read_to_string(&path).unwrap() == expected, "{path:?}");
            assert_eq!(fs::metadata(&path).unwrap().mtime(), 1_500_000_000);
        }
    }
    assert_eq!(fs::read_to_string(place.root().join("last")).unwrap(), "3");
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), 5);
}

#[test]
fn refused_layers_leave_nothing_of_their_content() {
    let place = Place::new();
    let tar = Tar::new().file("a", "content").link("b", "missing");
    place
        .unpack(&[tar.finish()], &UnpackOptions::default())
        .unwrap_err();
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), 0);
}
