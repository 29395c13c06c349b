//! How much memory flattening takes: that of the plan, whatever the files hold. A program of its own, since
//! it counts whatever is allocated in it.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where something does not hold"
)]

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use deploy_spec::{Algorithm, Digest, Hasher, media_type::Compression};
use deployctl::archive::{Dialect, FlattenOptions, LayerSource, flatten};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Buffers of reading and writing, and what waits between them.
const MOST: usize = 4 << 20;
/// The size of each file, which is many times that.
const SIZE: usize = 48 << 20;
const PIECE: usize = 1 << 20;

/// Writes a layer of one file, and of one that every layer replaces.
fn write(path: &Path, number: u8) -> Digest {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut write = |bytes: &[u8]| {
        file.write_all(bytes).unwrap();
        hasher.update(bytes);
    };
    for name in [format!("own{number}"), "shared".to_owned()] {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_mode(0o644);
        header.set_size(SIZE as u64);
        header.set_cksum();
        write(header.as_bytes());
        for piece in 0..SIZE / PIECE {
            write(&[number ^ u8::try_from(piece).unwrap(); PIECE]);
        }
    }
    write(&[0; 1024]);
    file.flush().unwrap();
    hasher.finish()
}

#[test]
fn flattening_takes_no_memory_for_what_is_in_files() {
    let directory = tempfile::tempdir().unwrap();
    let layers: Vec<_> = (0..2)
        .map(|number| {
            let path = directory.path().join(format!("layer{number}"));
            LayerSource {
                name: format!("l{number}"),
                digest: write(&path, number),
                path,
                growing: None,
                size: None,
                diff_id: None,
                dialect: Dialect::Own,
            }
        })
        .collect();
    for compression in [Compression::None, Compression::Gzip] {
        let options = FlattenOptions {
            compression,
            ..FlattenOptions::default()
        };
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        let flattened = flatten(&layers, io::sink(), &options).unwrap();
        let peak = ALLOCATED.peak_usage() - before;
        assert!(flattened.packed.unpacked_size > 3 * SIZE as u64);
        assert!(peak <= MOST, "{peak} bytes");
    }
}
