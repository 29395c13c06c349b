//! One archive of several layers is what they are together, whatever is in them: over generated
//! stacks of layers, and by hand.

use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::Arc, sync::atomic::AtomicBool};

use deploy_spec::{Digest, media_type::Compression};
use proptest::prelude::*;

use super::{
    super::{
        ArchiveError, FlattenOptions, Flattened, LayerSource, Layers, Ownership, SpecialBits,
        UnpackOptions, emit::push_record, error::escape_all, flatten, unpack,
    },
    Place, Tar,
};

/// Everything that an archive can say, and this process can set.
fn unpacking() -> UnpackOptions {
    UnpackOptions {
        special_bits: SpecialBits::Keep,
        ..UnpackOptions::default()
    }
}

/// Everything that an archive can say.
fn describing() -> UnpackOptions {
    let patterns = ["user.*", "trusted.*", "security.capability"];
    UnpackOptions {
        ownership: Ownership::Archive,
        extended_attributes: patterns.map(|one| one.parse().unwrap()).into(),
        ..unpacking()
    }
}

fn flattened(
    layers: &[LayerSource],
    options: &FlattenOptions,
) -> Result<(Vec<u8>, Flattened), ArchiveError> {
    let mut bytes = Vec::new();
    let flattened = flatten(layers, &mut bytes, options)?;
    assert_eq!(flattened.packed.digest, Digest::sha256(&bytes));
    assert_eq!(flattened.packed.size, bytes.len() as u64);
    Ok((bytes, flattened))
}

/// Returns what an unpacked tree has that `listing` does not tell: owners, fractions of times, and
/// which names are one file's.
fn groups(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first = std::collections::BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        let mut paths: Vec<_> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        for path in paths {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().as_os_str();
            let name = escape_all(name.as_encoded_bytes());
            let one = first.entry(metadata.ino()).or_insert_with(|| name.clone());
            let owner = (metadata.uid(), metadata.gid());
            lines.push(format!("{name} {owner:?} {} {one}", metadata.mtime_nsec()));
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    lines
}

/// Checks that the layers and what they become are one tree, planned and on a disk.
fn check(archives: &[Vec<u8>], compression: Compression) {
    let many = Place::new();
    let layers = many.layers(archives);
    let options = FlattenOptions {
        compression,
        ..FlattenOptions::default()
    };
    let mut opened = Layers::open(&layers, Arc::default()).unwrap();
    let expected = match opened.describe(&describing()) {
        Ok(expected) => expected,
        Err(error) => {
            // What cannot be unpacked cannot be flattened, for the same reason.
            let refused = flattened(&layers, &options).unwrap_err();
            assert_eq!(refused.to_string(), error.to_string());
            assert_eq!(refused.cause().to_string(), error.cause().to_string());
            return;
        }
    };
    let (bytes, found) = flattened(&layers, &options).unwrap();
    assert_eq!(flattened(&layers, &options).unwrap().1, found);
    let one = Place::new();
    let layer = one.layers(&[bytes]);
    let mut opened = Layers::open(&layer, Arc::default()).unwrap();
    let described = opened.describe(&describing()).unwrap();
    assert_eq!(described.changes_since(Some(&expected)), []);
    let summary = described.summary();
    assert_eq!(
        summary.diff_ids,
        std::slice::from_ref(&found.packed.diff_id)
    );
    let made = summary.directories + summary.files + summary.hard_links + summary.symlinks;
    assert_eq!(found.packed.entries, made + 1);
    unpack(&layers, &many.root(), &unpacking()).unwrap();
    unpack(&layer, &one.root(), &unpacking()).unwrap();
    assert_eq!(super::listing(&many.root()), super::listing(&one.root()));
    assert_eq!(groups(&many.root()), groups(&one.root()));
}

#[derive(Clone, Debug)]
struct Item {
    path: Vec<usize>,
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    mtime: (u32, u32),
    attributes: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Kind {
    File(Vec<u8>),
    HardLink(Vec<usize>),
    Symlink(Vec<u8>),
    Directory,
    Removed,
    Opaque,
}

/// Few names, so that layers meet.
const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"\xff\n", &[b'n'; 130], b" "];
const ATTRIBUTES: [&str; 4] = ["user.a", "user.b", "trusted.a", "security.capability"];

fn items() -> impl Strategy<Value = Vec<Item>> {
    let path = || proptest::collection::vec(0..NAMES.len(), 1..4);
    let kind = prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 0..1500).prop_map(Kind::File),
        3 => path().prop_map(Kind::HardLink),
        1 => proptest::collection::vec(1..=u8::MAX, 1..300).prop_map(Kind::Symlink),
        4 => Just(Kind::Directory),
        2 => Just(Kind::Removed),
        1 => Just(Kind::Opaque),
    ];
    let id = || {
        prop_oneof![
            Just(0),
            0..70_000_u32,
            Just(0o7_777_777),
            Just(0o10_000_000),
            Just(u32::MAX - 1)
        ]
    };
    let mtime = (
        0..2_000_000_000_u32,
        prop_oneof![Just(0), 0..1_000_000_000_u32],
    );
    let attribute = (
        0..ATTRIBUTES.len(),
        proptest::collection::vec(any::<u8>(), 1..30),
    );
    let attributes = proptest::collection::vec(attribute, 0..3);
    let item = (
        path(),
        kind,
        0..=0o7777_u32,
        (id(), id()),
        mtime,
        attributes,
    );
    let item = item.prop_map(|(path, kind, mode, owner, mtime, attributes)| Item {
        path,
        kind,
        mode,
        owner,
        mtime,
        attributes,
    });
    proptest::collection::vec(item, 1..12)
}

fn joined(path: &[usize]) -> Vec<u8> {
    let names: Vec<_> = path.iter().map(|name| NAMES[*name]).collect();
    names.join(&b'/')
}

fn archive(items: &[Item]) -> Vec<u8> {
    let mut tar = Tar::new();
    for item in items {
        let mut name = joined(&item.path);
        let (flag, link, content) = match &item.kind {
            Kind::File(content) => (b'0', Vec::new(), content.clone()),
            Kind::HardLink(target) => (b'1', joined(target), Vec::new()),
            Kind::Symlink(target) => (b'2', target.clone(), Vec::new()),
            Kind::Directory => (b'5', Vec::new(), Vec::new()),
            Kind::Opaque => {
                name.extend_from_slice(b"/.wh..wh..opq");
                (b'0', Vec::new(), Vec::new())
            }
            Kind::Removed => {
                let start = name.len() - NAMES[*item.path.last().unwrap()].len();
                name.splice(start..start, *b".wh.");
                (b'0', Vec::new(), Vec::new())
            }
        };
        let mut records = Vec::new();
        push_record(&mut records, b"path", &name);
        if !link.is_empty() {
            push_record(&mut records, b"linkpath", &link);
        }
        push_record(&mut records, b"uid", item.owner.0.to_string().as_bytes());
        push_record(&mut records, b"gid", item.owner.1.to_string().as_bytes());
        let time = format!("{}.{:09}", item.mtime.0, item.mtime.1);
        push_record(&mut records, b"mtime", time.as_bytes());
        for (attribute, value) in &item.attributes {
            let key = format!("SCHILY.xattr.{}", ATTRIBUTES[*attribute]);
            push_record(&mut records, key.as_bytes(), value);
        }
        tar = tar.raw(b'x', b"PaxHeader", b"", &records, |_| {});
        tar = tar.raw(flag, b"", b"", &content, |header| {
            header.set_mode(item.mode)
        });
    }
    tar.finish()
}

/// Returns the layers without the items for which they would be refused: chance makes few stacks
/// that hold what they say.
fn acceptable(layers: Vec<Vec<Item>>) -> Vec<Vec<Item>> {
    let mut kept: Vec<Vec<Item>> = Vec::new();
    for items in layers {
        kept.push(Vec::new());
        for item in items {
            kept.last_mut().unwrap().push(item);
            let place = Place::new();
            let archives: Vec<_> = kept.iter().map(|items| archive(items)).collect();
            let opened = Layers::open(&place.layers(&archives), Arc::default());
            if opened.unwrap().plan(&Default::default()).is_err() {
                kept.last_mut().unwrap().pop();
            }
        }
    }
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn one_archive_of_several_layers_is_the_tree_that_they_make(
        layers in proptest::collection::vec(items(), 1..5),
        compression in proptest::sample::select(vec![Compression::None, Compression::Gzip, Compression::Zstd]),
        refusals in prop::bool::weighted(0.1),
    ) {
        let layers = if refusals { layers } else { acceptable(layers) };
        let archives: Vec<_> = layers.iter().map(|items| archive(items)).collect();
        check(&archives, compression);
    }
}

#[test]
fn whiteouts_links_and_replacements_are_settled() {
    let setuid = |header: &mut tar::Header| header.set_mode(0o6755);
    let lower = Tar::new()
        .directory("emptied")
        .file("emptied/gone", "1")
        .directory("kept")
        .file("kept/in", "2")
        .file("becomes-directory", "3")
        .directory("becomes-file")
        .file("becomes-file/in", "4")
        .file("linked", "5")
        .symlink("lib", "usr/lib")
        .directory("usr/lib")
        .raw(b'0', b"program", b"", b"6", setuid);
    let middle = Tar::new()
        .file("emptied/.wh..wh..opq", "")
        .file("emptied/new", "7")
        .file("kept/.wh.in", "")
        .directory("becomes-directory")
        .file("becomes-file", "8")
        .file("usr/lib/library", "9");
    let upper = Tar::new().link("other", "linked").link("z", "program");
    let archives = [lower.finish(), middle.finish(), upper.finish()];
    check(&archives, Compression::Zstd);
    let place = Place::new();
    let layers = place.layers(&archives);
    let (bytes, _) = flattened(&layers, &FlattenOptions::default()).unwrap();
    let one = Place::new();
    let layer = one.layers(&[bytes]);
    let mut opened = Layers::open(&layer, Arc::default()).unwrap();
    let plan = opened.plan(&Default::default()).unwrap();
    let expected = [
        "/ 755",
        "becomes-directory/ 755",
        "becomes-file = 0.5",
        "emptied/ 755",
        "emptied/new = 0.6",
        "kept/ 755",
        "lib -> usr/lib",
        "linked = 0.7",
        "other = 0.7",
        "program = 0.8",
        "usr/ 755",
        "usr/lib/ 755",
        "usr/lib/library = 0.9",
        "z = 0.8",
    ];
    let mut lines = plan.survivors.lines();
    // Where in the archive a file stands is checked by there being one for each.
    for line in &mut lines {
        if let Some((name, _)) = line.clone().split_once(" = ") {
            *line = name.to_owned();
        }
    }
    let expected = expected.map(|line| line.split(" = ").next().unwrap().to_owned());
    assert_eq!(lines, expected);
}

#[test]
fn bytes_depend_on_what_the_layers_hold_and_not_on_how_they_are_kept() {
    let tar = || {
        Tar::new()
            .directory("d")
            .file("d/a", "1")
            .link("b", "d/a")
            .finish()
    };
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let (plain, packed) = (Place::new(), Place::new());
    let options = FlattenOptions::default();
    let (one, _) = flattened(&plain.layers(&[tar()]), &options).unwrap();
    let (other, _) = flattened(&packed.layers(&[gzip(&tar())]), &options).unwrap();
    assert_eq!(one, other);
    // And what was flattened stays as it is.
    let again = Place::new();
    assert_eq!(
        flattened(&again.layers(std::slice::from_ref(&one)), &options)
            .unwrap()
            .0,
        one
    );
}

#[test]
fn names_as_long_as_the_limit_can_be_unpacked_again() {
    let directory = format!(
        "{}/{}",
        vec!["d".repeat(255); 15].join("/"),
        "e".repeat(256 - 1)
    );
    assert_eq!(directory.len(), 4095);
    for name in [directory.clone(), format!("{}/x", &directory[..4094])] {
        let tar = Tar::new().pax(&[("path", &name)]).directory("x").finish();
        let place = Place::new();
        let layers = place.layers(&[tar]);
        let (bytes, _) = flattened(&layers, &FlattenOptions::default()).unwrap();
        let one = Place::new();
        let layers = one.layers(&[bytes]);
        let mut opened = Layers::open(&layers, Arc::default()).unwrap();
        let plan = opened.plan(&Default::default()).unwrap();
        let last = plan.entries().last().unwrap().path;
        assert_eq!(last.to_str(), Some(&*name));
    }
}

#[test]
fn a_layer_that_changes_between_the_two_readings_is_named() {
    struct Spoiling<'a>(&'a Path, Vec<u8>);
    impl std::io::Write for Spoiling<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            // The plan is made; what is written from now on is read anew.
            fs::write(self.0, &self.1)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let place = Place::new();
    let layers = place.layers(&[Tar::new().file("a", "one").finish()]);
    let other = Tar::new().file("a", "two").finish();
    let options = FlattenOptions {
        compression: Compression::None,
        ..FlattenOptions::default()
    };
    let refused = flatten(&layers, Spoiling(&layers[0].path, other), &options).unwrap_err();
    assert!(
        refused.is_of("l0") && refused.is_wrong_content(),
        "{refused:?}"
    );
}

#[test]
fn an_output_that_cannot_be_written_is_no_layers_fault_and_a_stop_is_heard() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let place = Place::new();
    let layers = place.layers(&[Tar::new().file("a", &"one".repeat(100_000)).finish()]);
    for compression in [Compression::None, Compression::Gzip] {
        let options = FlattenOptions {
            compression,
            ..FlattenOptions::default()
        };
        let refused = flatten(&layers, Full, &options).unwrap_err();
        assert!(matches!(refused, ArchiveError::Write(_)), "{refused:?}");
        assert!(refused.is_storage_full());
    }
    let options = FlattenOptions {
        stop: Arc::new(AtomicBool::new(true)),
        ..FlattenOptions::default()
    };
    let stopped = flatten(&layers, Vec::new(), &options).unwrap_err();
    assert!(matches!(stopped, ArchiveError::Interrupted), "{stopped:?}");
}
