//! Unpacking what was packed gives the tree again, whatever is in it, and packing that gives the
//! same digest: over generated trees.

use std::{
    fs::{self, File, Metadata, Permissions},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use deploy_spec::{Digest, media_type::Compression};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::{
    super::{PackOptions, Packed, UnpackOptions, pack},
    Place,
};

/// The last second that a header of pack's holds.
const LATEST: i64 = (1 << 33) - 1;

/// Something in a tree, at some path.
#[derive(Clone, Debug)]
struct Item {
    path: Vec<Vec<u8>>,
    kind: Kind,
    mode: u32,
    modified: i64,
}

#[derive(Clone, Debug)]
enum Kind {
    File(Vec<u8>),
    /// A further name of a file, whichever.
    HardLink(prop::sample::Index),
    Symlink(Vec<u8>),
    Directory,
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    // Every byte that a file system takes, some much longer than a header holds.
    let byte = any::<u8>().prop_filter("in a name", |byte| !matches!(byte, 0 | b'/'));
    let any_bytes = prop_oneof![
        4 => proptest::collection::vec(byte.clone(), 1..12),
        1 => proptest::collection::vec(byte, 90..=255),
    ];
    let odd = proptest::sample::select(vec![
        &b"..."[..],
        b"-",
        b" ",
        b"\n",
        b"\xff",
        b"a\\b",
        b"PaxHeader",
        b"GNUSparseFile.0",
        b"ustar",
        b".wh",
        b"\xe2\x80\xae",
    ]);
    prop_oneof![6 => any_bytes, 1 => odd.prop_map(<[u8]>::to_vec), 6 => "[ab]".prop_map(String::into_bytes)]
        .prop_filter("not special", |name| {
            name != b"." && name != b".." && !name.starts_with(b".wh.")
        })
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let kind = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..2000).prop_map(Kind::File),
        1 => any::<prop::sample::Index>().prop_map(Kind::HardLink),
        2 => proptest::collection::vec(1..=u8::MAX, 1..300).prop_map(Kind::Symlink),
        2 => Just(Kind::Directory),
    ];
    // Times before 1970 and beyond what a header holds among them.
    let modified =
        prop_oneof![4 => 0..2_000_000_000_i64, 1 => -1000..1000_i64, 1 => LATEST - 9..LATEST + 9];
    let path = proptest::collection::vec(names(), 1..5);
    let item = (path, kind, 0..=0o777_u32, modified);
    let item = item.prop_map(|(path, kind, mode, modified)| Item {
        path,
        kind,
        mode,
        modified,
    });
    proptest::collection::vec(item, 0..16)
}

fn at(root: &Path, path: &[Vec<u8>]) -> PathBuf {
    let names = path.iter().map(|name| std::ffi::OsStr::from_bytes(name));
    names.fold(root.to_owned(), |path, name| path.join(name))
}

/// Makes what can be made of the items, in their order.
fn plant(root: &Path, items: &[Item]) {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut made: Vec<(PathBuf, &Item)> = Vec::new();
    for item in items {
        let path = at(root, &item.path);
        if fs::create_dir_all(path.parent().unwrap()).is_err() || path.symlink_metadata().is_ok() {
            continue;
        }
        match &item.kind {
            Kind::File(bytes) => {
                fs::write(&path, bytes).unwrap();
                files.push(path.clone());
            }
            Kind::HardLink(_) if files.is_empty() => continue,
            Kind::HardLink(file) => fs::hard_link(file.get(&files), &path).unwrap(),
            Kind::Symlink(target) => symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap(),
            Kind::Directory => fs::create_dir(&path).unwrap(),
        }
        made.push((path, item));
    }
    // What was made last is deepest: filling a directory changes its time.
    for (path, item) in made.iter().rev() {
        match item.kind {
            Kind::Symlink(_) => {}
            // What its owner cannot read cannot be packed.
            Kind::Directory => {
                fs::set_permissions(path, Permissions::from_mode(item.mode | 0o700)).unwrap()
            }
            _ => fs::set_permissions(path, Permissions::from_mode(item.mode | 0o400)).unwrap(),
        }
        let time = Timespec {
            tv_sec: item.modified,
            tv_nsec: 5,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// A name with what stands there: kind, mode, time, and content or target.
type Line = (Vec<u8>, &'static str, u32, i64, String);

/// Returns what is below `root`, each as `seen` takes it.
fn lines(root: &Path, seen: impl Fn(&Metadata) -> (u32, i64)) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let (kind, content) = if metadata.is_dir() {
                open.push(path.clone());
                ("directory", String::new())
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                (
                    "link",
                    target.as_os_str().as_bytes().escape_ascii().to_string(),
                )
            } else {
                (
                    "file",
                    Digest::sha256(&fs::read(&path).unwrap()).to_string(),
                )
            };
            let (mode, modified) = seen(&metadata);
            let name = path.strip_prefix(root).unwrap();
            lines.push((
                name.as_os_str().as_bytes().to_vec(),
                kind,
                mode,
                modified,
                content,
            ));
        }
    }
    lines.sort();
    lines
}

/// What pack says it keeps of modes and times.
fn kept(metadata: &Metadata, options: &PackOptions) -> (u32, i64) {
    let mode = match metadata.mode() & 0o100 {
        _ if metadata.is_dir() => 0o755,
        _ if metadata.is_symlink() => 0o777,
        0 => 0o644,
        _ => 0o755,
    };
    let latest = options.source_date;
    let modified = latest.map_or(0, |latest| metadata.mtime().min(latest).clamp(0, LATEST));
    (mode, modified)
}

fn packed(root: &Path, options: &PackOptions) -> (Vec<u8>, Packed) {
    let mut bytes = Vec::new();
    let packed = pack(&[root.to_owned()], &mut bytes, options).unwrap();
    (bytes, packed)
}

fn check(items: &[Item], options: &PackOptions) {
    let source = tempfile::tempdir().unwrap();
    plant(source.path(), items);
    let (bytes, first) = packed(source.path(), options);
    let place = Place::new();
    let unpacked = place.unpack(&[bytes], &UnpackOptions::default()).unwrap();
    let found = |metadata: &Metadata| (metadata.mode() & 0o7777, metadata.mtime());
    assert_eq!(
        lines(source.path(), |metadata| kept(metadata, options)),
        lines(&place.root(), found)
    );
    assert_eq!(unpacked.diff_ids, std::slice::from_ref(&first.diff_id));
    // Nothing is finer than what the archive had to say.
    let root = File::open(place.root()).unwrap().metadata().unwrap();
    assert_eq!((found(&root).0, root.mtime_nsec()), (0o755, 0));
    let (_, again) = packed(&place.root(), options);
    assert_eq!(first, again);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn unpacking_what_was_packed_gives_the_tree_again(
        items in items(),
        compression in proptest::sample::select(vec![Compression::None, Compression::Gzip, Compression::Zstd]),
        source_date in proptest::option::of(prop_oneof![Just(LATEST), Just(i64::MAX), 0..2_000_000_000_i64]),
    ) {
        check(&items, &PackOptions { compression, source_date });
    }
}
