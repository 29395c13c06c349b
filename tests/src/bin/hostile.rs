//! Writes the corpus of hostile archives to files: `cargo run -p deploy-tests --bin hostile -- DIRECTORY`, for
//! other tar programs to be tried on. With `--seeds` before the directory it writes what the fuzzing of our own
//! reader begins with: inputs of the target `plan` of `deployctl/fuzz`, as far as they are small.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use deploy_tests::hostile::{Case, corpus};

/// What the archives try to reach, wherever they are unpacked.
const OUTSIDE: &str = "/outside";
/// Larger ones only make fuzzing slow.
const SEED_BYTES: usize = 8 << 10;
/// How the target takes a seed: the layers are planned a second time, compressed.
const AGAIN: u8 = 2;

fn main() -> Result<()> {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let seeds = arguments.iter().position(|argument| argument == "--seeds");
    let seeds = seeds.map(|at| arguments.remove(at)).is_some();
    let directory: PathBuf = arguments
        .pop()
        .context("usage: hostile [--seeds] DIRECTORY")?
        .into();
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("create `{}`", directory.display()))?;
    for case in corpus(OUTSIDE) {
        if seeds {
            seed(&directory, &case)?;
            continue;
        }
        for (number, layer) in case.layers.iter().enumerate() {
            write(&directory.join(format!("{}.{number}", case.name)), layer)?;
        }
    }
    Ok(())
}

/// Writes the two lowest layers of a case as one input.
fn seed(directory: &Path, case: &Case) -> Result<()> {
    let lower = case.layers.first().map_or(&[][..], Vec::as_slice);
    let upper = case.layers.get(1).map_or(&[][..], Vec::as_slice);
    if lower.len() + upper.len() > SEED_BYTES {
        return Ok(());
    }
    let length = u32::try_from(lower.len()).context("a seed is small")?;
    let input = [&[AGAIN][..], &length.to_le_bytes(), lower, upper].concat();
    write(&directory.join(case.name), &input)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("write `{}`", path.display()))
}
