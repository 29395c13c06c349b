//! The suite can fail: run against distribution, it finds the gaps that are known of it.
//!
//! Needs distribution's binary `registry` on PATH. Without it the test says so and stands
//! aside, and with CI=true it fails.

#![expect(clippy::unwrap_used, reason = "what a test can not do is its failure")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// What distribution 3.1 does against the text, with a MUST or an answer of 500.
const FAILED: [&str; 9] = [
    // An OCI manifest is 404 to `Accept: */*`.
    "pull.manifest.get.accept-any",
    // 500 instead of a refusal.
    "push.chunk.range.malformed",
    "push.chunk.range.huge",
    "push.manifest.foreign-layer",
    "push.manifest.error.not-a-manifest",
    "push.manifest.error.bad-descriptor",
    "extensions.answer.no-server-error",
    // There is no referrers API.
    "discovery.referrers.answered",
    // `UNKNOWN` and `RANGE_INVALID` are no codes of the list.
    "extensions.answer.code",
];

/// What it does not offer, or does otherwise than it should.
const SKIPPED: [&str; 12] = [
    "push.subject.header",
    "discovery.referrers.image",
    "push.manifest.sha512",
    "push.chunk.sha512",
    "push.mount.sha512",
    "push.mount.without-from",
    "push.blob.post.created",
    "push.manifest.too-large",
    "push.tag-parameter.supported",
    "push.conditional.offered",
    "extensions.discover.registry",
    "extensions.wait.offered",
];

/// What it does well, so that the suite is not merely strict.
const PASSED: [&str; 10] = [
    "pull.manifest.get.by-tag",
    "pull.blob.range.suffix",
    "push.blob.put.created",
    "push.chunk.several",
    "push.chunk.order.session-survives",
    "push.chunk.order.put-gap",
    "push.mount.created",
    "discovery.tags.link.followed",
    "discovery.tags.n.zero",
    "management.manifest.tags-gone",
];

/// A running registry, ended with the test.
struct Distribution {
    process: Child,
    url: String,
    _directory: TempDir,
}

impl Distribution {
    fn start(binary: PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let configuration = directory.path().join("config.yml");
        let text = "version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\n\
                    storage: {inmemory: {}, delete: {enabled: true}}\n\
                    http: {addr: \"127.0.0.1:0\"}\n";
        std::fs::write(&configuration, text).unwrap();
        let mut process = Command::new(binary)
            .arg("serve")
            .arg(&configuration)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map(|line| line.unwrap())
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on ")?;
                Some(rest.split(['"', ' ']).next()?.to_owned())
            })
            .expect("distribution says where it listens");
        // Its log goes on; a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            url: format!("http://{address}"),
            _directory: directory,
        }
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Distribution's binary on PATH; a peer that is missing on a build server is a failure.
fn installed(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join("registry"))
        .find(|file| file.is_file());
    if found.is_none() {
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

fn outcomes(report: &Value) -> BTreeMap<&str, &str> {
    report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| {
            let (id, outcome) = (&check["id"], &check["outcome"]);
            (id.as_str().unwrap(), outcome.as_str().unwrap())
        })
        .collect()
}

#[test]
fn known_gaps_of_distribution_are_found() {
    let Some(binary) = installed("known_gaps_of_distribution_are_found") else {
        return;
    };
    let registry = Distribution::start(binary);
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["run", &registry.url, "--output", "json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "a failure is exit status 1");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let outcomes = outcomes(&report);
    for (wanted, ids) in [
        ("failed", FAILED.as_slice()),
        ("skipped", SKIPPED.as_slice()),
        ("passed", PASSED.as_slice()),
    ] {
        for id in ids {
            assert_eq!(outcomes.get(id), Some(&wanted), "{id}");
        }
    }
}
