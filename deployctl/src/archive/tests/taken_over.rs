//! Large files that an earlier tree has already: whatever that holds, the new one holds what its
//! layers say.

use std::{
    fs,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, symlink},
    },
    sync::Arc,
};

use super::{
    super::{
        Layers, incoming::Incoming, metadata::Metadata, rules::Rules, takeover::Earlier,
        unpack::receive,
    },
    *,
};

/// More than is written at once, and no multiple of it.
const SIZE: usize = 900_001;

fn content(seed: u8) -> Vec<u8> {
    let byte = |at: usize| (at / 7) as u8 ^ seed;
    (0..SIZE).map(byte).collect()
}

/// What an earlier tree has, and how many bytes of it the new one may share at the most.
type Row = (&'static str, fn(&Path), u64);

const ROWS: [Row; 9] = [
    (
        "the same",
        |at| fs::write(at, content(1)).unwrap(),
        SIZE as u64,
    ),
    ("something else", |at| fs::write(at, content(2)).unwrap(), 0),
    (
        "another last byte",
        |at| {
            let mut bytes = content(1);
            bytes[SIZE - 1] ^= 1;
            fs::write(at, bytes).unwrap();
        },
        SIZE as u64 - 1,
    ),
    (
        "another first byte",
        |at| {
            let mut bytes = content(1);
            bytes[0] ^= 1;
            fs::write(at, bytes).unwrap();
        },
        SIZE as u64 - 1,
    ),
    (
        "a shorter one",
        |at| fs::write(at, &content(1)[1..]).unwrap(),
        0,
    ),
    (
        "a longer one",
        |at| fs::write(at, [content(1), content(1)].concat()).unwrap(),
        0,
    ),
    ("nothing", |_| {}, 0),
    (
        "a link to the same",
        |at| {
            let other = at.with_file_name("other");
            fs::write(&other, content(1)).unwrap();
            symlink("other", at).unwrap();
        },
        0,
    ),
    (
        "a pipe",
        |at| {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                at,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RWXU,
                0,
            )
            .unwrap();
        },
        0,
    ),
];

#[test]
fn content_is_the_layers_whatever_an_earlier_tree_has() {
    let bytes = content(1);
    let archive = Tar::new()
        .directory("d")
        .raw(b'0', b"d/large", b"", &bytes, |_| {})
        .file("small", "x")
        .finish();
    for (name, make, most) in ROWS {
        let place = Place::new();
        let earlier = place.path().join("earlier");
        fs::create_dir_all(earlier.join("d")).unwrap();
        make(&earlier.join("d/large"));
        let root = fs::File::open(place.root()).unwrap();
        let options = UnpackOptions::default();
        let metadata = Metadata::new(Rules::of(&options));
        let incoming = Incoming::create(root.as_fd(), &place.root(), metadata).unwrap();
        let incoming = Arc::new(
            incoming
                .taking_over(Earlier::copying(&earlier), &options)
                .unwrap(),
        );
        let sources = place.layers(std::slice::from_ref(&archive));
        let mut layers = Layers::open(&sources, Arc::default()).unwrap();
        receive(
            &mut layers,
            &options,
            &incoming,
            root.as_fd(),
            &place.root(),
            None,
        )
        .unwrap();
        let taken = incoming.earlier().unwrap().bytes();
        // A piece that was read before another one proved to be different counts as well.
        let all = most == SIZE as u64;
        assert!(taken <= most && (taken == most) >= all, "{name}: {taken}");
        let large = fs::read_dir(place.root())
            .unwrap()
            .flat_map(|incoming| fs::read_dir(incoming.unwrap().path()).unwrap())
            .flat_map(|number| fs::read_dir(number.unwrap().path()).unwrap())
            .map(|file| file.unwrap().path())
            .find(|file| fs::metadata(file).unwrap().len() > 1)
            .unwrap();
        assert!(fs::read(&large).unwrap() == bytes, "{name}");
        assert_eq!(fs::metadata(&large).unwrap().mtime(), 1_500_000_000);
    }
}

#[test]
fn earlier_tree_changes_nothing_of_what_is_unpacked() {
    let archive = Tar::new()
        .raw(b'0', b"large", b"", &content(1), |_| {})
        .finish();
    let archives = [archive];
    let first = Place::new();
    first.unpack(&archives, &UnpackOptions::default()).unwrap();
    let expected = listing(&first.root());
    for earlier in [
        first.root(),
        first.path().join("nowhere"),
        first.path().join("outside"),
    ] {
        let place = Place::new();
        let options = UnpackOptions {
            earlier: Some(earlier.clone()),
            ..UnpackOptions::default()
        };
        let unpacked = place.unpack(&archives, &options).unwrap();
        assert_eq!(listing(&place.root()), expected);
        assert!(matches!(unpacked.taken_over, 0 | 900_001), "{unpacked:?}");
        // What is written to one of them is not seen in the other.
        fs::write(place.root().join("large"), "new").unwrap();
        assert_eq!(listing(&first.root()), expected);
    }
}
