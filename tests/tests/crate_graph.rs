//! The plan of the house, asserted: which room may import which, what stands at the top of the tree, and which
//! files keep to their own side.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use deploy_tests::command::Run;
use deploy_tests::programs;
use serde_json::Value;

/// Every package with all packages of the workspace that it may import. Development dependencies count too.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("deploy-spec", &[]),
    ("deploy-registry", &["deploy-spec"]),
    ("deployctl", &["deploy-spec"]),
    ("deploy-agent", &["deploy-spec", "deployctl"]),
    ("deploy-from-docker", &["deploy-spec", "deployctl"]),
    (
        "deploy-tests",
        &[
            "deploy-spec",
            "deploy-registry",
            "deployctl",
            "deploy-agent",
            "deploy-from-docker",
        ],
    ),
    ("deploy-conformance", &[]),
];

const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "agent",
    "conformance",
    "deployctl",
    "from-docker",
    "registry",
    "spec",
    "tests",
];

fn metadata() -> Value {
    let answer = Run::new(programs::cargo())
        .args(["metadata", "--format-version", "1", "--locked", "--no-deps"])
        .directory(programs::workspace())
        .ok();
    serde_json::from_str(&answer.stdout).unwrap()
}

/// What the package's library and programs are linked with, tests aside.
fn linked(package: &str, flags: &[&str]) -> BTreeSet<String> {
    tree(package, "{lib}", flags)
}

/// The lines of the tree of what the package is linked with, in a format of cargo's.
fn tree(package: &str, format: &str, flags: &[&str]) -> BTreeSet<String> {
    let answer = Run::new(programs::cargo())
        .args([
            "tree",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            format,
            "--package",
            package,
        ])
        .args(flags)
        .directory(programs::workspace())
        .ok();
    answer
        .stdout
        .lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .collect()
}

/// The Rust sources below a directory of the workspace.
fn sources(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![programs::workspace().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The lines before a file's tests that use one of the words, comments aside.
fn uses(path: &Path, words: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text
        .lines()
        .take_while(|line| line.trim() != "#[cfg(test)]");
    let code = code.filter(|line| !line.trim_start().starts_with("//"));
    let bad = code.filter(|line| words.iter().any(|word| line.contains(word)));
    bad.map(|line| format!("{}: {}", path.display(), line.trim()))
        .collect()
}

#[track_caller]
fn assert_unused(files: impl IntoIterator<Item = PathBuf>, words: &[&str]) {
    let bad: Vec<String> = files
        .into_iter()
        .flat_map(|file| uses(&file, words))
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn rooms_import_downwards_only() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    let planned: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    assert_eq!(names, planned.keys().copied().collect());
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = dependency["name"].as_str().unwrap();
            assert!(
                !names.contains(other) || planned[name].contains(&other),
                "`{name}` imports `{other}`"
            );
        }
    }
}

#[test]
fn importers_of_the_toolbox_leave_its_command_line_out() {
    for package in metadata()["packages"].as_array().unwrap() {
        for dependency in package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it["name"] == "deployctl")
        {
            let features = dependency["features"].as_array().unwrap();
            assert_eq!(
                dependency["uses_default_features"], false,
                "{}",
                package["name"]
            );
            assert!(
                features
                    .iter()
                    .all(|feature| feature != "cli" && feature != "default"),
                "{}",
                package["name"]
            );
        }
    }
    let linked = linked("deployctl", &["--no-default-features"]);
    for command_line in [
        "anyhow",
        "clap",
        "clap_complete",
        "clap_mangen",
        "indicatif",
        "tracing_subscriber",
    ] {
        assert!(
            !linked.contains(command_line),
            "the library of deployctl is linked with `{command_line}`"
        );
    }
}

/// Without `std`, zlib-rs looks for none of the processor's wider instructions: right, and slow.
#[test]
fn gzip_looks_for_what_the_processor_has() {
    for package in ["deployctl", "deploy-agent", "deploy-from-docker"] {
        let tree = tree(package, "{lib} {f}", &[]);
        let mut found = tree.iter().filter_map(|line| line.strip_prefix("zlib_rs "));
        let features = found.next().unwrap_or_default();
        let mut features = features.split(',');
        assert!(features.any(|feature| feature == "std"), "{package}");
    }
}

#[test]
fn spec_is_bytes_in_and_values_out() {
    let linked = linked("deploy-spec", &[]);
    for outside in [
        "tokio",
        "reqwest",
        "hyper",
        "axum",
        "object_store",
        "rustix",
        "tempfile",
        "walkdir",
    ] {
        assert!(!linked.contains(outside), "spec is linked with `{outside}`");
    }
    let io = [
        "std::fs",
        "std::net",
        "std::process",
        "std::env",
        "std::os",
        "std::thread",
        "SystemTime",
        "println!",
    ];
    assert_unused(sources("spec/src"), &io);
}

#[test]
fn toolbox_knows_no_environment_and_no_terminal() {
    let bin = programs::workspace().join("deployctl/src/bin");
    let library = sources("deployctl/src")
        .into_iter()
        .filter(|path| !path.starts_with(&bin));
    assert_unused(
        library,
        &[
            "env::var",
            "env::args",
            "env::home_dir",
            "env::current_dir",
            "println!",
            "print!(",
            "clap::",
            "anyhow::",
            "is_terminal",
        ],
    );
}

#[test]
fn store_knows_no_http() {
    assert_unused(
        sources("registry/src/store"),
        &["axum", "http::", "StatusCode", "crate::http"],
    );
}

#[test]
fn machine_of_the_agent_is_pure() {
    let machine = programs::workspace().join("agent/src/machine.rs");
    assert_unused(
        [machine],
        &[
            "tokio",
            "std::fs",
            "std::net",
            "std::process",
            "std::env",
            "Instant::now",
            "deployctl::",
            "async ",
        ],
    );
}

#[test]
fn conformance_suite_names_none_of_our_crates() {
    assert_unused(
        sources("conformance"),
        &[
            "deploy_spec",
            "deploy_registry",
            "deployctl::",
            "deploy_agent",
        ],
    );
}

#[test]
fn top_level_holds_the_rooms_and_nothing_else() {
    let entries = std::fs::read_dir(programs::workspace())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('.') && name != "target");
    names.sort();
    assert_eq!(names, TOP_LEVEL);
}

#[test]
fn every_room_keeps_the_lints_of_the_house() {
    for package in metadata()["packages"].as_array().unwrap() {
        let manifest = std::fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{} does not inherit the lints",
            package["name"]
        );
    }
}

#[test]
fn every_source_file_opens_with_its_job() {
    let opens = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let first = text.lines().find(|line| !line.trim().is_empty());
        first.is_some_and(|line| line.starts_with("//!") || line.starts_with("#![doc"))
    };
    let without: Vec<_> = sources("")
        .into_iter()
        .filter(|path| !opens(path))
        .collect();
    assert!(without.is_empty(), "no `//!` at the top of {without:#?}");
}
