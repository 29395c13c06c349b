//! What the benchmarks share: real trees, archives of them, other programs, medians.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// How much of the crates' sources is enough.
const MANY_BYTES: u64 = 100 << 20;

/// Files and directories that make one layer.
pub(crate) struct Tree {
    pub(crate) name: &'static str,
    paths: Vec<PathBuf>,
}

/// Returns the trees to pack: many small files, a large one, and a mix. They are what every Rust
/// machine has: sources of crates, the compiler's library, the toolchain's libraries.
pub(crate) fn trees() -> Result<Vec<Tree>> {
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

/// Packs a tree with GNU tar; returns the archive, which is in `place`.
pub(crate) fn pack(tree: &Tree, compression: &str, place: &Path) -> Result<PathBuf> {
    let layer = place.join(format!("{}.{compression}", tree.name));
    let mut tar = Command::new("tar");
    tar.arg(format!("--{compression}")).arg("-cf").arg(&layer);
    for path in &tree.paths {
        let (parent, name) = (path.parent(), path.file_name());
        tar.arg("-C").arg(parent.context("no parent")?);
        tar.arg(name.context("no name")?);
    }
    run(&mut tar)?;
    Ok(layer)
}

/// Runs a program to its end, which has to be a good one.
pub(crate) fn run(command: &mut Command) -> Result<()> {
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
pub(crate) fn sorted(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<_> = paths.collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// Returns how many files there are below a path, and their bytes.
pub(crate) fn size(path: &Path) -> Result<(u64, u64)> {
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

/// Returns the time in the middle.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
