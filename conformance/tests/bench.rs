//! The load test measures something in every cell: a quick run against distribution.
//!
//! Needs distribution's binary `registry` on PATH. Without it the test says so and stands
//! aside, and with CI=true it fails.

#![expect(clippy::unwrap_used, reason = "what a test can not do is its failure")]

use std::io::Write as _;
use std::process::Command;

use serde_json::Value;

/// Every cell of a quick run, in order.
const CELLS: [&str; 20] = [
    "push.blob.4k.c1",
    "push.blob.4k.c4",
    "push.blob.4k.c16",
    "push.blob.1m.c1",
    "push.blob.1m.c4",
    "push.blob.1m.c16",
    "push.blob.4m.c1",
    "push.blob.4m.c4",
    "push.blob.4m.c16",
    "push.image.one.c8",
    "push.image.many.c8",
    "manifest.get.tag.c16",
    "manifest.get.digest.c16",
    "manifest.head.tag.c16",
    "manifest.head.digest.c16",
    "blob.get.4k.c16",
    "blob.get.4m.c4",
    "tags.page.100.c4",
    "catalog.c4",
    "mix.rest.c8",
];

/// What distribution does not offer.
const MISSING: &str = "referrers.c4";

/// Bodies of these are empty.
const WITHOUT_BYTES: &str = "manifest.head.";

/// True where distribution's binary is on PATH; a peer that is missing on a build server is a
/// failure.
fn is_installed(test: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join("registry").is_file());
    if !found {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "{test} needs distribution's `registry` on PATH"
        );
        // Past the capture of the test harness, so that a skip is seen.
        let mut stderr = std::io::stderr().lock();
        writeln!(
            stderr,
            "skipped: {test} needs distribution's `registry` on PATH"
        )
        .unwrap();
    }
    found
}

#[test]
fn a_quick_run_measures_every_cell() {
    if !is_installed("a_quick_run_measures_every_cell") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (json, svg) = (
        directory.path().join("bench.json"),
        directory.path().join("bench.svg"),
    );
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["bench", "--quick", "--tags", "100", "--json"])
        .arg(&json)
        .arg("--svg")
        .arg(&svg)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");

    let results: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(results["peers"][0]["name"], "distribution");
    let cells = results["cells"].as_array().unwrap();
    let measured: Vec<&str> = cells
        .iter()
        .filter(|cell| cell["results"][0]["measured"].is_object())
        .map(|cell| cell["id"].as_str().unwrap())
        .collect();
    assert_eq!(measured, CELLS, "{stderr}");
    for cell in cells {
        let (id, result) = (cell["id"].as_str().unwrap(), &cell["results"][0]);
        if id == MISSING {
            assert!(result["failed"].is_string(), "{id}: {result}");
            continue;
        }
        let figures = &result["measured"];
        let positive = |name: &str| figures[name].as_f64().is_some_and(|it| it > 0.0);
        for name in ["rate", "p50_ms", "operations", "resident_before_bytes"] {
            assert!(positive(name), "{id} {name}: {figures}");
        }
        assert!(
            positive("bytes_per_second") || id.starts_with(WITHOUT_BYTES),
            "{id}: {figures}"
        );
        assert!(
            figures["p99_ms"].as_f64() >= figures["p50_ms"].as_f64(),
            "{id}: {figures}"
        );
        assert_eq!(figures["errors"], 0, "{id}: {figures}");
    }

    let table = String::from_utf8(output.stdout).unwrap();
    for id in CELLS {
        assert!(table.contains(id), "{table}");
    }
    assert!(std::fs::read_to_string(&svg).unwrap().starts_with("<svg "));
}

#[test]
fn load_on_another_machine_has_to_be_asked_for() {
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args([
            "bench",
            "--quick",
            "--without-distribution",
            "http://192.0.2.1:5000",
        ])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("--remote"), "{stderr}");
}
