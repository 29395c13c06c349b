//! Other projects' programs, which ours are run against, and what a test does where one is missing. Called
//! by the scenarios.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::programs;

/// Returns where the peer is: on PATH, or in `target/peers/bin`, where `tests/peers/install` puts it.
pub fn find(name: &str) -> Option<PathBuf> {
    search_path()
        .iter()
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// A PATH on which the programs of the workspace come first, then the peers, then the machine's own.
pub fn path_variable() -> OsString {
    let mut directories = vec![programs::directory().to_owned()];
    directories.extend(search_path());
    std::env::join_paths(directories).expect("directories from a PATH fit into a PATH")
}

/// Says that `test` is skipped for want of `need`, in the form that `tests/run` counts.
///
/// # Panics
/// With `CI=true`, where all that can be installed has to be there.
pub fn skip(test: &str, need: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} needs {need}, and on CI it has to be there"
    );
    // Written to the stream itself: what goes through `eprintln!` is kept back for a test that passes.
    writeln!(std::io::stderr().lock(), "skipped: {test} needs {need}").ok();
}

/// Finds a peer, or says that the test is skipped and returns from it.
#[macro_export]
macro_rules! peer_or_skip {
    ($test:expr, $name:expr) => {
        match $crate::peers::find($name) {
            Some(path) => path,
            None => {
                $crate::peers::skip($test, $name);
                return;
            }
        }
    };
}

fn search_path() -> Vec<PathBuf> {
    let own = programs::workspace().join("target/peers/bin");
    let machine = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(std::env::split_paths(&machine).filter(|path| path != Path::new("")))
        .collect()
}
