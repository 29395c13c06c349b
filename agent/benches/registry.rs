//! How long a release takes from a registry to a tree on the disk, beside what other tools do of
//! it: `skopeo copy` into a layout, `umoci unpack` (`tar` where the layer is zstd, which not every
//! umoci knows), and `sync -f`, for the agent's tree is synced too. One run measures both in turn,
//! so that the machine is the same.
//!
//! `cargo build --release --workspace --bins && cargo bench -p deploy-agent --bench registry`
//! wants skopeo and umoci on PATH, root for umoci, and 22 GiB below TMPDIR: trees stay until the
//! end, since removing files slows ext4 down for minutes.

#[path = "support/programs.rs"]
mod programs;
mod support;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use programs::{Registry, program};
use support::{Tree, median, pack, run, size, sorted, trees};

/// How often each is measured; figures are medians.
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    let place = place.path();
    let registry = Registry::start(place)?;
    let script = place.join("script");
    fs::write(&script, "#!/bin/sh\n")?;
    run(Command::new("chmod").arg("755").arg(&script))?;
    let mut output = std::io::stdout().lock();
    writeln!(
        output,
        "tree   layer  files     MiB   skopeo, umoci|tar, sync      agent   ×"
    )?;
    for tree in trees()? {
        for compression in ["gzip", "zstd"] {
            let line = measure(&tree, compression, place, &registry, &script)?;
            writeln!(output, "{line}")?;
        }
    }
    Ok(())
}

/// Returns the line of the table.
fn measure(
    tree: &Tree,
    compression: &str,
    place: &Path,
    registry: &Registry,
    script: &Path,
) -> Result<String> {
    let layer = pack(tree, compression, place)?;
    let name = format!("{}-{compression}", tree.name);
    let version = format!("{name}:v1");
    registry.deployctl(&["push", &version, &layer.display().to_string()])?;
    registry.deployctl(&["addconf", "-name", &name, "-layer", &version])?;
    fs::remove_file(&layer)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let root = |who: &str| -> Result<PathBuf> {
            let root = place.join(format!("{name}-{who}-{round}"));
            fs::create_dir(&root)?;
            run(Command::new("sync").arg("-f").arg(&root))?;
            Ok(root)
        };
        let agent = |times: &mut Vec<Duration>| -> Result<()> {
            let root = root("ours")?;
            let mut command = Command::new(program("deploy-agent")?);
            command.args(["once", "-addr", &registry.address, "-name", &name]);
            command.arg("-dir").arg(&root).arg("-script").arg(script);
            let start = Instant::now();
            run(&mut command)?;
            times.push(start.elapsed());
            Ok(())
        };
        let others = |times: &mut Vec<Duration>| -> Result<()> {
            let root = root("theirs")?;
            let source = format!("docker://{}/configs/{name}:latest", registry.address);
            let layout = format!("{}:latest", root.join("layout").display());
            let start = Instant::now();
            let mut skopeo = Command::new("skopeo");
            skopeo.args(["copy", "--insecure-policy", "--src-tls-verify=false"]);
            run(skopeo.args([source, format!("oci:{layout}")]))?;
            if compression == "gzip" {
                let mut umoci = Command::new("umoci");
                umoci.args(["unpack", "--image", &layout]);
                run(umoci.arg(root.join("bundle")))?;
            } else {
                fs::create_dir(root.join("bundle"))?;
                let mut tar = Command::new("tar");
                tar.arg(format!("--{compression}")).arg("-xf");
                tar.arg(largest(&root.join("layout/blobs/sha256"))?);
                run(tar.arg("-C").arg(root.join("bundle")))?;
            }
            run(Command::new("sync").arg("-f").arg(&root))?;
            times.push(start.elapsed());
            Ok(())
        };
        // Whoever is first has another disk than whoever follows.
        if round % 2 == 0 {
            agent(&mut ours)?;
            others(&mut theirs)?;
        } else {
            others(&mut theirs)?;
            agent(&mut ours)?;
        }
    }
    let tree_of_ours = place.join(format!("{name}-ours-0/unpacked"));
    let (files, bytes) = size(&tree_of_ours)?;
    let (ours, theirs) = (median(ours), median(theirs));
    Ok(format!(
        "{:6} {compression:5} {files:6} {:7.1} {:22.0} ms {:7.0} ms {:5.2}",
        tree.name,
        bytes as f64 / f64::from(1 << 20),
        theirs.as_secs_f64() * 1e3,
        ours.as_secs_f64() * 1e3,
        theirs.as_secs_f64() / ours.as_secs_f64()
    ))
}

/// Returns the largest file in a directory: of an image's blobs, its layer.
fn largest(directory: &Path) -> Result<PathBuf> {
    let paths = sorted(directory)?;
    let length = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    paths.into_iter().max_by_key(length).context("no blobs")
}
