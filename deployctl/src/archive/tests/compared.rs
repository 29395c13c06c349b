//! Trees on a disk that were changed behind the back of whoever unpacked them: what is said of
//! that, and what it takes to restore them.

use std::{
    fs::{self, FileTimes, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime},
};

use super::{
    super::{
        ChangeKind, Described, Deviation, Drift, Extras, Layers, Repair, Repaired, Shown, repair,
    },
    *,
};

/// An unpacked tree, and what it was made of.
struct Unpacked {
    place: Place,
    layers: Layers,
    described: Described,
}

fn archives() -> [Vec<u8>; 2] {
    let large = "0123456789abcdef".repeat(40_000);
    [
        Tar::new()
            .file("replaced", "old")
            .file("file", "content")
            .file("large", &large)
            .directory("d")
            .file("d/one", "1")
            .directory("d/e")
            .file("d/e/two", "2")
            .link("d/hard", "file")
            .symlink("link", "d/one")
            .finish(),
        Tar::new()
            .file("replaced", "new")
            .file("empty", "")
            .finish(),
    ]
}

fn describe(place: &Place, archives: &[Vec<u8>]) -> (Layers, Described) {
    let mut layers = Layers::open(&place.layers(archives), Arc::default()).unwrap();
    let described = layers.describe(&UnpackOptions::default()).unwrap();
    (layers, described)
}

impl Unpacked {
    fn new() -> Self {
        let place = Place::new();
        place
            .unpack(&archives(), &UnpackOptions::default())
            .unwrap();
        let (layers, described) = describe(&place, &archives());
        Self {
            place,
            layers,
            described,
        }
    }

    fn drifts(&self) -> Vec<Drift> {
        let stop = AtomicBool::new(false);
        self.described.compare(&self.place.root(), &stop).unwrap()
    }

    fn repair(&mut self, extras: Extras) -> Vec<Repaired> {
        let drifts = self.drifts();
        let staging = self.place.path().join("staging");
        fs::create_dir(&staging).unwrap();
        let work = Repair {
            root: &self.place.root(),
            staging: &staging,
            options: &UnpackOptions::default(),
            extras,
        };
        let repaired = repair(&mut self.layers, &self.described, &drifts, &work).unwrap();
        fs::remove_dir_all(staging).unwrap();
        repaired
    }
}

fn lines(drifts: &[Drift]) -> Vec<String> {
    let line = |drift: &Drift| {
        let word = |deviation: &Deviation| match deviation {
            Deviation::Missing => "missing".to_owned(),
            Deviation::Extra(what) => format!("extra {what}"),
            Deviation::Type { expected, found } => format!("{found} for {expected}"),
            Deviation::Content => "content".to_owned(),
            Deviation::Target { expected, found } => {
                format!("{} for {}", found.display(), expected.display())
            }
            Deviation::Link(file) => format!("no link of {}", file.display()),
            Deviation::Mode { expected, found } => format!("{found:o} for {expected:o}"),
            Deviation::Owner { .. } => "owner".to_owned(),
            Deviation::Time => "time".to_owned(),
            Deviation::Attribute(name) => format!("attribute {name}"),
        };
        let words: Vec<_> = drift.deviations.iter().map(word).collect();
        format!("{}: {}", Shown(&drift.path), words.join(", "))
    };
    drifts.iter().map(line).collect()
}

/// Something that happens to a tree, and what is said of it.
type Damage = (fn(&Path), &'static [&'static str]);

const DAMAGES: [Damage; 16] = [
    (|_| {}, &[]),
    (
        |root| fs::write(root.join("file"), "tampered").unwrap(),
        // By its other name too, of which one line is enough.
        &["d/hard: content"],
    ),
    (
        |root| {
            fs::write(root.join("replaced"), "neu").unwrap();
            // Whoever keeps the time hides nothing.
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
            let file = fs::File::options().write(true).open(root.join("replaced"));
            file.unwrap()
                .set_times(FileTimes::new().set_modified(time))
                .unwrap();
        },
        &["replaced: content"],
    ),
    (
        |root| {
            let file = fs::File::options()
                .append(true)
                .open(root.join("large"))
                .unwrap();
            file.set_len(7).unwrap();
        },
        &["large: content"],
    ),
    (
        |root| {
            let file = fs::File::options()
                .append(true)
                .open(root.join("d/one"))
                .unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
            file.set_times(FileTimes::new().set_modified(time)).unwrap();
        },
        &["d/one: time"],
    ),
    (
        |root| fs::set_permissions(root.join("empty"), Permissions::from_mode(0o4755)).unwrap(),
        &["empty: 4755 for 644"],
    ),
    (
        |root| fs::set_permissions(root.join("d/e"), Permissions::from_mode(0o700)).unwrap(),
        &["d/e: 700 for 755"],
    ),
    (
        |root| fs::remove_file(root.join("d/e/two")).unwrap(),
        &["d/e/two: missing"],
    ),
    (
        |root| fs::remove_dir_all(root.join("d")).unwrap(),
        &[
            "d: missing",
            "d/e: missing",
            "d/e/two: missing",
            "d/hard: missing",
            "d/one: missing",
            "file: no link of d/hard",
        ],
    ),
    (
        |root| {
            fs::remove_file(root.join("link")).unwrap();
            symlink("/etc/passwd", root.join("link")).unwrap();
        },
        &["link: /etc/passwd for d/one"],
    ),
    (
        |root| {
            fs::remove_file(root.join("link")).unwrap();
            fs::write(root.join("link"), "1").unwrap();
        },
        &["link: file for symbolic link"],
    ),
    (
        |root| {
            fs::remove_file(root.join("d/one")).unwrap();
            symlink("../../outside", root.join("d/one")).unwrap();
        },
        &["d/one: symbolic link for file"],
    ),
    (
        |root| {
            fs::copy(root.join("file"), root.join("copy")).unwrap();
            fs::rename(root.join("copy"), root.join("file")).unwrap();
        },
        &["file: no link of d/hard"],
    ),
    (
        |root| {
            fs::remove_file(root.join("empty")).unwrap();
            fs::create_dir(root.join("empty")).unwrap();
        },
        &["empty: directory for file"],
    ),
    (
        |root| {
            // Whatever is behind the link is not what was deployed, and not to be touched.
            let elsewhere = root.with_file_name("elsewhere");
            fs::rename(root.join("d"), &elsewhere).unwrap();
            fs::write(elsewhere.join("one"), "untouched").unwrap();
            symlink(&elsewhere, root.join("d")).unwrap();
        },
        &[
            "d: symbolic link for directory",
            "d/e: missing",
            "d/e/two: missing",
            "d/hard: missing",
            "d/one: missing",
            "file: no link of d/hard",
        ],
    ),
    (
        |root| {
            fs::write(root.join("d/log"), "x").unwrap();
            fs::create_dir_all(root.join("cache/x")).unwrap();
            symlink("/", root.join("cache/root")).unwrap();
        },
        &["cache: extra directory", "d/log: extra file"],
    ),
];

#[test]
fn whatever_deviates_is_found_and_restored() {
    for (number, (damage, expected)) in DAMAGES.iter().enumerate() {
        let mut unpacked = Unpacked::new();
        let root = unpacked.place.root();
        let before = listing(&root);
        damage(&root);
        let found = unpacked.drifts();
        assert_eq!(lines(&found), *expected, "{number}");
        let extra = |drift: &Drift| matches!(drift.deviations[0], Deviation::Extra(_));
        let repaired = unpacked.repair(Extras::Leave);
        assert_eq!(repaired.len(), found.len());
        for (drift, repaired) in found.iter().zip(&repaired) {
            let left = matches!(repaired, Repaired::Left(_));
            assert_eq!(left, extra(drift), "{number}: {drift:?}");
        }
        let left: Vec<_> = { found }.into_iter().filter(extra).collect();
        assert_eq!(unpacked.drifts(), left, "{number}");
        let repaired = unpacked.repair(Extras::Remove);
        assert_eq!(repaired, vec![Repaired::Removed; left.len()]);
        assert_eq!(unpacked.drifts(), [], "{number}");
        assert_eq!(listing(&root), before, "{number}");
        let inode = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
        assert_eq!(inode("file"), inode("d/hard"), "{number}");
        let outside = fs::read_to_string(unpacked.place.path().join("outside")).unwrap();
        assert_eq!(outside, "untouched");
        if let Ok(kept) = fs::read_to_string(root.with_file_name("elsewhere").join("one")) {
            assert_eq!(kept, "untouched", "{number}");
        }
    }
}

#[test]
fn files_are_replaced_and_not_written_to() {
    let mut unpacked = Unpacked::new();
    let file = unpacked.place.root().join("d/one");
    fs::write(&file, "tampered").unwrap();
    // Under another name it is somebody else's.
    let other = unpacked.place.path().join("other");
    fs::hard_link(&file, &other).unwrap();
    assert_eq!(unpacked.repair(Extras::Leave), [Repaired::Restored]);
    assert_eq!(fs::read_to_string(file).unwrap(), "1");
    assert_eq!(fs::read_to_string(other).unwrap(), "tampered");
}

#[test]
fn directories_in_the_way_stay_until_they_may_go() {
    let mut unpacked = Unpacked::new();
    let root = unpacked.place.root();
    let before = listing(&root);
    fs::remove_file(root.join("link")).unwrap();
    fs::create_dir(root.join("link")).unwrap();
    fs::write(root.join("link/data"), "precious").unwrap();
    assert_eq!(
        lines(&unpacked.drifts()),
        ["link: directory for symbolic link"]
    );
    let repaired = unpacked.repair(Extras::Leave);
    assert!(matches!(repaired[..], [Repaired::Left(reason)] if reason.contains("directory")));
    assert_eq!(
        fs::read_to_string(root.join("link/data")).unwrap(),
        "precious"
    );
    assert_eq!(unpacked.repair(Extras::Remove), [Repaired::Restored]);
    assert_eq!(listing(&root), before);
}

#[test]
fn directories_that_may_not_be_written_are_restored() {
    let archive = Tar::new()
        .raw(b'5', b"d", b"", b"", |header| header.set_mode(0o500))
        .file("d/f", "x");
    let place = Place::new();
    let archives = [archive.finish()];
    place.unpack(&archives, &UnpackOptions::default()).unwrap();
    let (layers, described) = describe(&place, &archives);
    let mut unpacked = Unpacked {
        place,
        layers,
        described,
    };
    let directory = unpacked.place.root().join("d");
    let before = listing(&unpacked.place.root());
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    fs::write(directory.join("f"), "y").unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o500)).unwrap();
    assert_eq!(unpacked.repair(Extras::Leave), [Repaired::Restored]);
    assert_eq!(listing(&unpacked.place.root()), before);
}

#[test]
fn releases_differ_name_by_name() {
    let place = Place::new();
    let (_, one) = describe(&place, &archives());
    let mut later = archives().to_vec();
    later.push(
        Tar::new()
            .file("replaced", "newer")
            .file("d/new", "12345")
            .raw(
                b'0',
                b"large",
                b"",
                "0123456789abcdef".repeat(40_000).as_bytes(),
                |header| {
                    header.set_mode(0o755);
                },
            )
            .file(".wh.empty", "")
            .symlink("link", "d/new")
            .raw(b'0', b"d/one", b"", b"1", |_| {})
            .symlink("d/e", "two")
            .finish(),
    );
    let (_, other) = describe(&place, &later);
    let line = |change: &super::super::Change| {
        let size = change.size;
        format!(
            "{} {:?} {:?} {size}",
            Shown(&change.path),
            change.kind,
            change.what
        )
    };
    let changes: Vec<_> = other.changes_since(Some(&one)).iter().map(line).collect();
    let expected = [
        "d/e Changed Symlink 0",
        "d/e/two Removed File 0",
        "d/new Added File 5",
        "empty Removed File 0",
        "large Metadata File 640000",
        "link Changed Symlink 0",
        "replaced Changed File 5",
    ];
    assert_eq!(changes, expected);
    assert_eq!(one.changes_since(Some(&one)), []);
    let added = one.changes_since(None);
    assert!(added.iter().all(|change| change.kind == ChangeKind::Added));
    assert_eq!(added.len(), 10);
}
