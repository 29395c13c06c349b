//! How long a cached layer takes to become a tree on the disk, beside what people would type:
//! `tar -xf` and `sync -f`. One run measures both in turn, so that the machine is the same.
//!
//! `cargo bench -p deploy-agent --bench unpack` takes its trees from what every Rust machine
//! has: sources of crates, the compiler's library, the toolchain's libraries. It needs 22 GiB
//! below TMPDIR: trees stay until the end, since removing files slows ext4 down for minutes. For
//! the same reason its figures are worth something on a file system where nobody has removed
//! many files for a while, best of all a new one.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use deployctl::archive::{LayerSource, UnpackOptions, inspect, unpack};

/// How often each is measured; figures are medians.
const ROUNDS: usize = 7;
/// How much of the crates' sources is enough.
const MANY_BYTES: u64 = 100 << 20;

struct Tree {
    name: &'static str,
    paths: Vec<PathBuf>,
}

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

/// Returns the trees to pack: many small files, a large one, and a mix.
fn trees() -> Result<Vec<Tree>> {
    let cargo = std::env::var("CARGO_HOME")
        .or_else(|_| Ok::<_, std::env::VarError>(format!("{}/.cargo", std::env::var("HOME")?)))?;
    let mut many = Vec::new();
    let mut bytes = 0;
    for source in sorted(&Path::new(&cargo).join("registry/src"))? {
        for package in sorted(&source)? {
            if bytes < MANY_BYTES {
                bytes += size(&package)?.1;
                many.push(package);
            }
        }
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let sysroot = Command::new(rustc).args(["--print", "sysroot"]).output()?;
    let sysroot = PathBuf::from(String::from_utf8(sysroot.stdout)?.trim());
    let large = sorted(&sysroot.join("lib"))?.into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("librustc_driver")
    });
    Ok(vec![
        Tree {
            name: "many",
            paths: many,
        },
        Tree {
            name: "large",
            paths: large.collect(),
        },
        Tree {
            name: "mix",
            paths: vec![sysroot.join("lib/rustlib"), sysroot.join("bin")],
        },
    ])
}

/// Returns the line of the table.
fn measure(tree: &Tree, compression: &str, place: &Path) -> Result<String> {
    let layer = place.join(format!("{}.{compression}", tree.name));
    let mut tar = Command::new("tar");
    tar.arg(format!("--{compression}")).arg("-cf").arg(&layer);
    for path in &tree.paths {
        let (parent, name) = (path.parent(), path.file_name());
        tar.arg("-C").arg(parent.context("no parent")?);
        tar.arg(name.context("no name")?);
    }
    run(&mut tar)?;
    let inspected = inspect(File::open(&layer)?)?;
    let source = LayerSource {
        name: tree.name.to_owned(),
        path: layer.clone(),
        digest: inspected.digest,
        size: Some(inspected.size),
        diff_id: Some(inspected.diff_id),
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

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().last().unwrap_or_default();
    ensure!(
        output.status.success(),
        "{command:?}: {}: {last}",
        output.status
    );
    Ok(())
}

/// Returns the paths in a directory, by name.
fn sorted(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<_> = paths.collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// Returns how many files there are below a path, and their bytes.
fn size(path: &Path) -> Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok((1, metadata.len()));
    }
    sorted(path)?
        .iter()
        .try_fold((0, 0), |(files, bytes), path| {
            let (more_files, more_bytes) = size(path)?;
            Ok((files + more_files, bytes + more_bytes))
        })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
