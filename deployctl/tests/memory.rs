//! How much memory the plan of a tree takes. A program of its own, since it counts whatever is
//! allocated in it.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where something does not hold"
)]

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use deploy_spec::{Algorithm, Digest, Hasher};
use deployctl::archive::{Dialect, LayerSource, Layers, Limits};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What is promised of an entry, beside its name.
const BYTES: u64 = 300;
/// What reading takes whatever the number of entries: buffers, and what waits to be merged.
const READING: u64 = 4 << 20;

/// Returns the flag, the name and the target of an entry by its number.
type Shape = fn(u32) -> (u8, String, String);

/// Names that are as short as can be, so that everything else shows.
const SHAPES: [(&str, Shape); 8] = [
    ("files side by side", |n| {
        (b'0', format!("{n:x}"), String::new())
    }),
    ("files that replace each other", |n| {
        (b'0', format!("{:x}", n % 9), String::new())
    }),
    ("each file in a directory of its own", |n| match n % 2 {
        0 => (b'5', format!("{n:x}/"), String::new()),
        _ => (b'0', format!("{:x}/f", n - 1), String::new()),
    }),
    (
        "each file below directories that nothing else tells of",
        |n| (b'0', format!("{n:x}/a/b/c"), String::new()),
    ),
    ("the deepest ways", |n| {
        (b'0', format!("{n:x}{}", "/d".repeat(254)), String::new())
    }),
    ("symbolic links", |n| {
        (b'2', format!("{n:x}"), "t".to_owned())
    }),
    ("symbolic links that replace directories", |n| match n % 2 {
        0 => (b'5', format!("{n:x}/"), String::new()),
        _ => (b'2', format!("{:x}", n - 1), "t".to_owned()),
    }),
    ("hard links", |n| match n {
        0 => (b'0', "f".to_owned(), String::new()),
        _ => (b'1', format!("{n:x}"), "f".to_owned()),
    }),
];

/// Writes an archive whose entries and directories are `names` in number, about, and returns how
/// many they are, how long their names, and the digest.
fn write(path: &Path, shape: Shape, names: u64) -> (u64, u64, Digest) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut write = |bytes: &[u8]| {
        hasher.update(bytes);
        file.write_all(bytes).unwrap();
    };
    let (mut counted, mut bytes, mut number) = (0, 0, 0);
    while counted < names {
        let (flag, name, target) = shape(number);
        let mut header = tar::Header::new_ustar();
        let long = name.len() > 100;
        if long {
            let mut extension = tar::Header::new_gnu();
            extension.set_path("././@LongLink").unwrap();
            extension.set_entry_type(tar::EntryType::GNULongName);
            extension.set_size(name.len() as u64);
            extension.set_cksum();
            let mut content = name.clone().into_bytes();
            content.resize(content.len().next_multiple_of(512), 0);
            write(extension.as_bytes());
            write(&content);
        } else {
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        }
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(tar::EntryType::new(flag));
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        header.set_cksum();
        write(header.as_bytes());
        // Directories on the way are told of by the first name only, or by an entry of theirs.
        let way = name.trim_end_matches('/').matches('/').count() as u64;
        counted += match way {
            1 => 1,
            way => 1 + way,
        };
        bytes += (name.len() + target.len()) as u64;
        number += 1;
    }
    write(&[0; 1024]);
    file.flush().unwrap();
    (counted, bytes, hasher.finish())
}

#[test]
fn entry_of_any_shape_takes_at_most_300_bytes_beside_its_name() {
    let long = std::env::var_os("DEPLOY_TESTS_LONG").is_some();
    let names = if long { 1_000_000 } else { 50_000 };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layer");
    for (what, shape) in SHAPES {
        let (count, bytes, digest) = write(&path, shape, names);
        let source = LayerSource {
            name: what.to_owned(),
            path: path.clone(),
            growing: None,
            digest,
            size: None,
            diff_id: None,
            dialect: Dialect::Own,
        };
        let mut layers = Layers::open(&[source], Default::default()).unwrap();
        let before = ALLOCATED.current_usage() as u64;
        ALLOCATED.reset_peak_usage();
        let plan = layers.plan(&Limits::default()).unwrap();
        let peak = ALLOCATED.peak_usage() as u64 - before;
        assert!(plan.summary().diff_ids.len() == 1);
        let each = peak.saturating_sub(READING + bytes) as f64 / count as f64;
        let message = format!("{what}: {each:.0} bytes for each of {count}, {peak} in all");
        writeln!(std::io::stderr().lock(), "{message}").unwrap();
        assert!(peak <= READING + bytes + BYTES * count, "{message}");
    }
}
