//! What holds whatever layers are: planning them ends, within its limits and its memory, in a tree
//! that stays within its root; and the same bytes compressed make the same tree.
//!
//! An input is a byte that says how it is taken, four with the length of the lower layer, and both
//! layers. `cargo run -p deploy-tests --bin hostile -- --seeds DIRECTORY` writes such from the
//! hostile archives. The fuzz target `plan` calls this with inputs, and a test of the crate with
//! those that are kept in the corpus; both count what is allocated.

use std::{
    collections::HashMap,
    fs::File,
    io::Write,
    os::fd::AsRawFd,
    path::{Component, PathBuf},
};

use deploy_spec::Digest;
use deployctl::archive::{
    Dialect, LayerSource, Layers, Limits, Plan, Planned, PlannedKind, inspect,
};
use peak_alloc::PeakAlloc;

const BLOCK: usize = 512;
/// Bit of the first byte: the checksums of headers are made right, so that what was changed in
/// them gets past the door.
const SEAL: u8 = 1;
/// Bit of the first byte: the layers are planned a second time, compressed.
const AGAIN: u8 = 2;
/// Bit of the first byte: the layers are those of an image.
const IMAGE: u8 = 4;
/// Buffers, and what waits to be merged.
const READING: usize = 8 << 20;

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.entries = 100;
    limits.depth = 12;
    limits.bytes = 256 << 10;
    limits.ratio_floor = 1 << 20;
    limits.name_bytes = 600;
    limits.component_bytes = 255;
    limits.extension_bytes = 16 << 10;
    limits
}

/// Makes the checksum of every block right that has a header's mark.
fn seal(layer: &mut [u8]) {
    for block in layer.chunks_exact_mut(BLOCK) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

/// A layer in memory, which lives as long as its file is open.
fn source(bytes: &[u8], dialect: Dialect) -> (File, LayerSource) {
    let file = rustix::fs::memfd_create("layer", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = File::from(file.expect("there is memory"));
    file.write_all(bytes).expect("there is memory");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let source = LayerSource {
        name: "layer".to_owned(),
        path,
        growing: None,
        digest: Digest::sha256(bytes),
        size: Some(bytes.len() as u64),
        diff_id: None,
        dialect,
    };
    (file, source)
}

fn plan_of(layers: &[Vec<u8>], dialect: Dialect) -> Option<Plan> {
    let layers = layers.iter().map(|layer| source(layer, dialect));
    let (_files, sources): (Vec<_>, Vec<_>) = layers.unzip();
    let mut layers = Layers::open(&sources, Default::default()).expect("the files are open");
    layers.plan(&limits()).ok()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("there is memory");
    encoder.finish().expect("there is memory")
}

fn check(plan: &Plan) {
    let limits = limits();
    let entries: Vec<Planned> = plan.entries().collect();
    assert!(entries.len() as u64 <= limits.entries);
    let kinds: HashMap<_, _> = entries
        .iter()
        .map(|entry| (&entry.path, &entry.kind))
        .collect();
    assert_eq!(kinds.len(), entries.len(), "a name twice");
    let mut bytes = 0;
    for Planned { path, kind } in &entries {
        let normal = |component| matches!(component, Component::Normal(_));
        assert!(
            path.components().all(normal) && path.file_name().is_some(),
            "{path:?}"
        );
        assert!(path.components().count() as u64 <= limits.depth, "{path:?}");
        assert!(
            path.as_os_str().len() as u64 <= limits.name_bytes,
            "{path:?}"
        );
        let parent = path.parent().expect("it has a name");
        let within = parent.as_os_str().is_empty()
            || kinds.get(&parent.to_owned()) == Some(&&PlannedKind::Directory);
        assert!(within, "{path:?} has no directory");
        match kind {
            PlannedKind::File { size } => bytes += size,
            PlannedKind::HardLink { file } => {
                assert!(matches!(kinds[file], PlannedKind::File { .. }), "{path:?}");
            }
            PlannedKind::Symlink { target } => assert!(!target.as_os_str().is_empty()),
            _ => {}
        }
    }
    assert!(bytes <= limits.bytes);
}

/// Panics where something does not hold.
pub(crate) fn plan_stays_within(input: &[u8], allocated: &PeakAlloc) {
    let Some((head, rest)) = input.split_at_checked(5) else {
        return;
    };
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    let length = usize::try_from(length).expect("it fits").min(rest.len());
    let (lower, upper) = rest.split_at(length);
    let mut layers: Vec<_> = [lower, upper]
        .into_iter()
        .filter(|layer| !layer.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    if head[0] & SEAL != 0 {
        layers.iter_mut().for_each(|layer| seal(layer));
    }
    let dialect = match head[0] & IMAGE {
        0 => Dialect::Own,
        _ => Dialect::Image,
    };
    for layer in &layers {
        let _ = inspect(&layer[..]);
    }
    let before = allocated.current_usage();
    allocated.reset_peak_usage();
    let planned = plan_of(&layers, dialect);
    let taken = allocated.peak_usage() - before;
    assert!(taken <= READING + 2 * input.len(), "{taken} bytes");
    if let Some(plan) = &planned {
        check(plan);
    }
    let is_plain = layers
        .iter()
        .all(|layer| layer.len() >= BLOCK && layer[257..].starts_with(b"ustar"));
    if head[0] & AGAIN != 0 && is_plain {
        let compressed: Vec<_> = layers.iter().map(|layer| gzip(layer)).collect();
        let entries = |plan: Option<Plan>| plan.map(|plan| plan.entries().collect::<Vec<_>>());
        assert_eq!(entries(planned), entries(plan_of(&compressed, dialect)));
    }
}
