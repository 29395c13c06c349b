//! Files that become further names of an earlier tree's: only those that are the same in everything,
//! and nothing is ever written to them.

use std::{
    fs::{self, File, FileTimes, Permissions},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use super::{
    super::{ChangeKind, Extras, Layers, Repair, SpecialBits, TakeOver, repair},
    *,
};

/// More than is handed over at once, and no multiple of it.
pub(super) const LARGE: usize = 900_001;
const SMALL: usize = 1001;

pub(super) fn linking() -> UnpackOptions {
    UnpackOptions {
        take_over: TakeOver::Link,
        ..UnpackOptions::default()
    }
}

fn from(earlier: &Path) -> UnpackOptions {
    UnpackOptions {
        earlier: Some(earlier.to_owned()),
        ..linking()
    }
}

pub(super) fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at / 7) as u8).collect()
}

/// The content with another byte at one place.
pub(super) fn but(size: usize, at: usize) -> Vec<u8> {
    let mut bytes = content(size);
    bytes[at] ^= 1;
    bytes
}

fn archive(small: &[u8], large: &[u8]) -> Vec<u8> {
    Tar::new()
        .directory("d")
        .raw(b'0', b"d/large", b"", large, |_| {})
        .raw(b'0', b"small", b"", small, |header| header.set_mode(0o755))
        .file("empty", "")
        .file("d/same", "same")
        .link("d/hard", "d/same")
        .symlink("link", "small")
        .finish()
}

fn same() -> Vec<u8> {
    archive(&content(SMALL), &content(LARGE))
}

pub(super) fn are_one(one: &Path, other: &Path) -> bool {
    let inode = |path: &Path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.dev(), metadata.ino())
    };
    inode(one) == inode(other)
}

/// Changes a file and sees to it that its mode and time do not tell.
fn secretly(path: &Path, change: impl FnOnce(&Path)) {
    let before = fs::metadata(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    change(path);
    let times = FileTimes::new().set_modified(before.modified().unwrap());
    File::open(path).unwrap().set_times(times).unwrap();
    fs::set_permissions(path, before.permissions()).unwrap();
}

pub(super) fn edit(path: &Path, at: usize) {
    secretly(path, |path| {
        let file = fs::OpenOptions::new().read(true).write(true).open(path);
        let (file, mut byte) = (file.unwrap(), [0]);
        file.read_exact_at(&mut byte, at as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
    });
}

#[test]
fn what_stays_the_same_is_one_inode_in_both_trees() {
    let first = Place::new();
    let unpacked = first.unpack(&[same()], &linking()).unwrap();
    assert_eq!((unpacked.linked, unpacked.taken_over), (0, 0));
    let expected = listing(&first.root());
    let modes = ["small 555 ", "d/same 444 ", "empty 444 ", "d/ 755 "];
    for mode in modes {
        assert!(expected.iter().any(|line| line.starts_with(mode)), "{mode}");
    }
    let mut earlier = first.root();
    // A third tree shares them too.
    let places = [Place::new(), Place::new()];
    for place in &places {
        let unpacked = place.unpack(&[same()], &from(&earlier)).unwrap();
        assert_eq!(listing(&place.root()), expected);
        assert_eq!(unpacked.linked, 3);
        assert_eq!(unpacked.taken_over, (SMALL + LARGE + 4) as u64);
        let names = ["small", "d/large", "d/same", "d/hard", "empty", "link", "d"];
        let shared = names.map(|name| are_one(&place.root().join(name), &earlier.join(name)));
        assert_eq!(shared, [true, true, true, true, false, false, false]);
        earlier = place.root();
    }
    remove_tree(&first.root()).unwrap();
    assert_eq!(listing(&earlier), expected);
}

#[test]
fn whatever_is_new_in_a_file_is_not_seen_in_the_earlier_tree() {
    let (small, large) = (content(SMALL), content(LARGE));
    let mut cases = vec![
        (small[1..].to_vec(), large.clone(), [false, true]),
        (small.clone(), large[1..].to_vec(), [true, false]),
        (Vec::new(), Vec::new(), [false, false]),
    ];
    for at in [0, SMALL / 2, SMALL - 1] {
        cases.push((but(SMALL, at), large.clone(), [false, true]));
    }
    for at in [0, 300_000, LARGE / 2, LARGE - 1] {
        cases.push((small.clone(), but(LARGE, at), [true, false]));
    }
    for (small, large, expected) in cases {
        let (first, second, alone) = (Place::new(), Place::new(), Place::new());
        first.unpack(&[same()], &linking()).unwrap();
        let before = listing(&first.root());
        let archives = [archive(&small, &large)];
        second.unpack(&archives, &from(&first.root())).unwrap();
        alone.unpack(&archives, &linking()).unwrap();
        assert_eq!(listing(&second.root()), listing(&alone.root()));
        assert_eq!(listing(&first.root()), before);
        let shared = ["small", "d/large"]
            .map(|name| are_one(&second.root().join(name), &first.root().join(name)));
        assert_eq!(shared, expected);
        assert_eq!(fs::read_dir(second.root()).unwrap().count(), 4);
    }
}

/// What somebody does to a file of the earlier tree.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 13] = [
    ("first byte", |path| edit(path, 0)),
    ("middle byte", |path| edit(path, SMALL / 2)),
    ("byte far behind", |path| {
        edit(path, fs::metadata(path).unwrap().len() as usize / 2)
    }),
    ("last byte", |path| {
        edit(path, fs::metadata(path).unwrap().len() as usize - 1)
    }),
    ("a byte more", |path| {
        let longer = [fs::read(path).unwrap(), vec![0]].concat();
        secretly(path, |path| fs::write(path, longer).unwrap());
    }),
    ("write bits", |path| {
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    }),
    ("setuid", |path| {
        let mode = fs::metadata(path).unwrap().mode() | 0o4000;
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }),
    ("time", |path| {
        let later = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_500_000_000_000_001_000);
        let times = FileTimes::new().set_modified(later);
        File::open(path).unwrap().set_times(times).unwrap();
    }),
    ("owner", |path| {
        if chown(path, Some(4321), None).is_err() {
            // Not everybody may.
            secretly(path, |path| fs::write(path, "").unwrap());
        }
    }),
    ("attribute", |path| {
        secretly(path, |path| {
            let set = setxattr(path, "user.more", b"value", XattrFlags::empty());
            if set.is_err() {
                // Not every file system can.
                fs::write(path, "").unwrap();
            }
        });
    }),
    ("a link", |path| {
        let other = path.with_file_name("other");
        fs::rename(path, &other).unwrap();
        symlink("other", path).unwrap();
    }),
    ("a pipe", |path| {
        fs::remove_file(path).unwrap();
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o444), 0).unwrap();
    }),
    ("a directory", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
];

#[test]
fn file_of_the_earlier_tree_that_is_not_as_it_was_is_not_taken_over() {
    let alone = Place::new();
    alone.unpack(&[same()], &linking()).unwrap();
    let expected = listing(&alone.root());
    for (damage, apply) in DAMAGES {
        let (first, second) = (Place::new(), Place::new());
        first.unpack(&[same()], &linking()).unwrap();
        for name in ["small", "d/large"] {
            apply(&first.root().join(name));
        }
        let unpacked = second.unpack(&[same()], &from(&first.root())).unwrap();
        assert_eq!(unpacked.linked, 1, "{damage}");
        assert_eq!(listing(&second.root()), expected, "{damage}");
        for name in ["small", "d/large"] {
            let [one, other] = [&second, &first].map(|place| place.root().join(name));
            assert!(!are_one(&one, &other), "{damage}");
            assert_eq!(fs::metadata(&one).unwrap().nlink(), 1, "{damage}");
        }
    }
}

#[test]
fn special_bits_and_attributes_are_those_that_a_new_file_would_get() {
    let archives = [Tar::new()
        .raw(b'0', b"setuid", b"", b"x", |header| header.set_mode(0o4755))
        .pax(&[("SCHILY.xattr.user.origin", "here")])
        .file("attribute", "x")
        .file("plain", "x")
        .finish()];
    let keep = |options: UnpackOptions| UnpackOptions {
        special_bits: SpecialBits::Keep,
        extended_attributes: vec!["user.*".parse().unwrap()],
        ..options
    };
    let first = Place::new();
    if let Err(error) = first.unpack(&archives, &keep(linking())) {
        // The file system has no attributes.
        assert!(
            matches!(error.cause(), ArchiveError::Attribute { .. }),
            "{error}"
        );
        return;
    }
    for (options, expected) in [
        (keep(from(&first.root())), [true, true, true]),
        (from(&first.root()), [false, false, true]),
    ] {
        let second = Place::new();
        second.unpack(&archives, &options).unwrap();
        let shared = ["setuid", "attribute", "plain"]
            .map(|name| are_one(&second.root().join(name), &first.root().join(name)));
        assert_eq!(shared, expected);
        let mode = fs::metadata(second.root().join("setuid")).unwrap().mode() & 0o7777;
        assert_eq!(mode, if expected[0] { 0o4555 } else { 0o555 });
    }
}

#[test]
fn two_files_stay_two_where_the_earlier_tree_has_them_as_one() {
    let (first, second) = (Place::new(), Place::new());
    let joined = Tar::new().file("a", "x").link("b", "a").finish();
    first
        .unpack(std::slice::from_ref(&joined), &linking())
        .unwrap();
    let apart = Tar::new().file("a", "x").file("b", "x").finish();
    second.unpack(&[apart], &from(&first.root())).unwrap();
    let [a, b] = ["a", "b"].map(|name| second.root().join(name));
    assert!(!are_one(&a, &b));
    assert!(are_one(&a, &first.root().join("a")) != are_one(&b, &first.root().join("a")));
    // And the other way round.
    let third = Place::new();
    third.unpack(&[joined], &from(&second.root())).unwrap();
    let [c, d] = ["a", "b"].map(|name| third.root().join(name));
    assert!(are_one(&c, &d) && are_one(&c, &a) && !are_one(&d, &b));
}

#[test]
fn of_several_layers_the_last_one_says_what_a_file_is() {
    let lower = Tar::new()
        .file("a", "old")
        .file("b", "same")
        .file("c", "gone");
    let upper = Tar::new().file("a", "new").file(".wh.c", "");
    let archives = [lower.finish(), upper.finish()];
    let (first, second) = (Place::new(), Place::new());
    first.unpack(&archives, &linking()).unwrap();
    let unpacked = second.unpack(&archives, &from(&first.root())).unwrap();
    assert_eq!((unpacked.linked, unpacked.taken_over), (2, 7));
    assert_eq!(listing(&second.root()), listing(&first.root()));
    // What a lower layer brings may be what the earlier tree has there: it is replaced like any other.
    let third = Place::new();
    let lower = Tar::new().file("a", "new").finish();
    let upper = Tar::new().file("a", "newer").finish();
    let unpacked = third.unpack(&[lower, upper], &from(&first.root())).unwrap();
    assert_eq!((unpacked.linked, unpacked.taken_over), (0, 0));
    assert_eq!(fs::read_to_string(third.root().join("a")).unwrap(), "newer");
    assert_eq!(listing(&second.root()), listing(&first.root()));
    assert_eq!(fs::metadata(first.root().join("a")).unwrap().nlink(), 2);
}

#[test]
fn drift_that_two_trees_share_is_mended_in_one_without_touching_the_other() {
    let (first, second) = (Place::new(), Place::new());
    first.unpack(&[same()], &linking()).unwrap();
    let expected = listing(&first.root());
    second.unpack(&[same()], &from(&first.root())).unwrap();
    let mut layers = Layers::open(&second.layers(&[same()]), Arc::default()).unwrap();
    let described = layers.describe(&linking()).unwrap();
    let stop = AtomicBool::new(false);
    assert_eq!(described.compare(&second.root(), &stop).unwrap(), []);
    edit(&second.root().join("small"), 0);
    edit(&second.root().join("d/large"), LARGE - 1);
    let writable = Permissions::from_mode(0o644);
    fs::set_permissions(second.root().join("d/same"), writable).unwrap();
    let drifted = listing(&first.root());
    assert_eq!(drifted, listing(&second.root()));
    let drifts = described.compare(&second.root(), &stop).unwrap();
    assert_eq!(drifts.len(), 3);
    let staging = second.path().join("staging");
    fs::create_dir(&staging).unwrap();
    let work = Repair {
        root: &second.root(),
        staging: &staging,
        options: &from(&first.root()),
        extras: Extras::Leave,
    };
    repair(&mut layers, &described, &drifts, &work).unwrap();
    assert_eq!(described.compare(&second.root(), &stop).unwrap(), []);
    assert_eq!(listing(&second.root()), expected);
    assert_eq!(listing(&first.root()), drifted);
}

#[test]
fn losing_the_write_bits_is_a_change_between_releases_too() {
    let place = Place::new();
    let archives = [Tar::new()
        .file("file", "x")
        .raw(b'0', b"fixed", b"", b"x", |header| header.set_mode(0o444))
        .directory("d")
        .finish()];
    let describe = |options: &UnpackOptions| {
        let layers = Layers::open(&place.layers(&archives), Arc::default());
        layers.unwrap().describe(options).unwrap()
    };
    let (usual, linked) = (describe(&UnpackOptions::default()), describe(&linking()));
    let changes = linked.changes_since(Some(&usual));
    let changes: Vec<_> = changes.iter().map(|one| (&*one.path, one.kind)).collect();
    assert_eq!(changes, [(Path::new("file"), ChangeKind::Metadata)]);
    assert_eq!(linked.changes_since(Some(&describe(&linking()))), []);
}

/// Somebody edits a file without a pause and hides it: whatever is found of that, no file of the
/// new tree's own has anything but the archive's bytes.
#[test]
fn edits_beside_the_comparison_reach_no_file_of_the_new_tree() {
    let first = Place::new();
    first.unpack(&[same()], &linking()).unwrap();
    let path = first.root().join("d/large");
    fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while !over.load(Ordering::Relaxed) {
                // Back and forth, each time at another place.
                edit(&path, at);
                edit(&path, at);
                at = (at + 123_457) % LARGE;
            }
        });
        let unpack = |_| {
            let second = Place::new();
            second.unpack(&[same()], &from(&first.root()))?;
            let large = second.root().join("d/large");
            Ok(are_one(&large, &path) || fs::read(&large).unwrap() == content(LARGE))
        };
        let whole: Result<Vec<bool>, ArchiveError> = (0..10).map(unpack).collect();
        over.store(true, Ordering::Relaxed);
        assert_eq!(whole.unwrap(), [true; 10]);
    });
}
