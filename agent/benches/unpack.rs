//! How long a cached layer takes to become a tree on the disk, beside what people would type:
//! `tar -xf` and `sync -f`. One run measures both in turn, so that the machine is the same.
//!
//! `cargo bench -p deploy-agent --bench unpack` takes its trees from what every Rust machine
//! has: sources of crates, the compiler's library, the toolchain's libraries. It needs 22 GiB
//! below TMPDIR: trees stay until the end, since removing files slows ext4 down for minutes. For
//! the same reason its figures are worth something on a file system where nobody has removed
//! many files for a while, best of all a new one.

mod support;

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Result;
use deployctl::archive::{Dialect, LayerSource, UnpackOptions, inspect, unpack};

use support::{Tree, median, pack, run, size, trees};

/// How often each is measured; figures are medians.
const ROUNDS: usize = 7;
fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    let mut output = std::io::stdout().lock();
    writeln!(
        output,
        "tree   layer  files     MiB   tar, sync      unpack   ×"
    )?;
    for tree in trees()? {
        for compression in ["gzip", "zstd"] {
            writeln!(output, "{}", measure(&tree, compression, place.path())?)?;
        }
    }
    Ok(())
}

/// Returns the line of the table.
fn measure(tree: &Tree, compression: &str, place: &Path) -> Result<String> {
    let layer = pack(tree, compression, place)?;
    let inspected = inspect(File::open(&layer)?)?;
    let source = LayerSource {
        name: tree.name.to_owned(),
        path: layer.clone(),
        growing: None,
        digest: inspected.digest,
        size: Some(inspected.size),
        diff_id: Some(inspected.diff_id),
        dialect: Dialect::Own,
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let root = |who: &str| -> Result<PathBuf> {
            let root = place.join(format!("{}-{compression}-{who}-{round}", tree.name));
            fs::create_dir(&root)?;
            run(Command::new("sync").arg("-f").arg(&root))?;
            Ok(root)
        };
        let unpack_ours = |times: &mut Vec<Duration>| -> Result<()> {
            let root = root("ours")?;
            let start = Instant::now();
            unpack(
                std::slice::from_ref(&source),
                &root,
                &UnpackOptions::default(),
            )?;
            times.push(start.elapsed());
            Ok(())
        };
        let unpack_theirs = |times: &mut Vec<Duration>| -> Result<()> {
            let root = root("tar")?;
            let start = Instant::now();
            run(Command::new("tar")
                .arg("-xf")
                .arg(&layer)
                .arg("-C")
                .arg(&root))?;
            run(Command::new("sync").arg("-f").arg(&root))?;
            times.push(start.elapsed());
            Ok(())
        };
        // Whoever is first has another disk than whoever follows.
        if round % 2 == 0 {
            unpack_ours(&mut ours)?;
            unpack_theirs(&mut theirs)?;
        } else {
            unpack_theirs(&mut theirs)?;
            unpack_ours(&mut ours)?;
        }
    }
    let (files, bytes) = size(&place.join(format!("{}-{compression}-ours-0", tree.name)))?;
    let (ours, theirs) = (median(ours), median(theirs));
    Ok(format!(
        "{:6} {compression:5} {files:6} {:7.1} {:8.0} ms {:8.0} ms {:5.2}",
        tree.name,
        bytes as f64 / f64::from(1 << 20),
        theirs.as_secs_f64() * 1e3,
        ours.as_secs_f64() * 1e3,
        theirs.as_secs_f64() / ours.as_secs_f64()
    ))
}
