//! Writes the corpus of hostile archives to files: `cargo run -p deploy-tests --bin hostile -- DIRECTORY`. For
//! other tar programs to be tried on, and as the seed of the fuzzing of our own reader.

use std::path::PathBuf;

use anyhow::{Context, Result};
use deploy_tests::hostile::corpus;

/// What the archives try to reach, wherever they are unpacked.
const OUTSIDE: &str = "/outside";

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let directory: PathBuf = arguments.next().context("usage: hostile DIRECTORY")?.into();
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("create `{}`", directory.display()))?;
    for case in corpus(OUTSIDE) {
        for (number, layer) in case.layers.iter().enumerate() {
            let path = directory.join(format!("{}.{number}", case.name));
            std::fs::write(&path, layer).with_context(|| format!("write `{}`", path.display()))?;
        }
    }
    Ok(())
}
