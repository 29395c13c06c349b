//! The command line: exit statuses, messages, and the official suite held to its results.
//! The registry is a thread that answers 200 to everything.

#![expect(clippy::unwrap_used, reason = "what a test can not do is its failure")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

/// A server that answers every request in the same way; it ends with the test process.
fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut request = [0; 64 * 1024];
                drop(stream.read(&mut request));
                drop(stream.write_all(answer.as_bytes()));
            });
        }
    });
    url
}

const YES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
const HTML: &str = "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\
                    Connection: close\r\n\r\n<html></html>";

fn conformance(arguments: &[&str], environment: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.args(arguments).env_remove("OCI_CONFORMANCE");
    for (name, value) in environment {
        command.env(name, value);
    }
    command.output().unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_wrong_command_line_is_exit_status_2() {
    for arguments in [
        ["run", "ftp://h"].as_slice(),
        &["run", "http://h/path"],
        &["run"],
        &["run", "http://h", "--only", "no.such.check"],
        &["official", "http://h", "--spec-version", "9"],
        &["clients", "http://h", "--only", "netscape"],
        &["fly"],
    ] {
        let output = conformance(arguments, &[]);
        assert_eq!(code(&output), Some(2), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_registry_that_is_none_is_said_in_one_line() {
    // Bound and not listening: a port that was given back may be another test's server by now.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = format!("http://{}", socket.local_addr().unwrap());
    for (url, words) in [
        (closed, "does not answer"),
        (server(HTML), "is no registry"),
    ] {
        let output = conformance(&["run", &url], &[]);
        assert_eq!(code(&output), Some(1));
        let message = stderr(&output);
        assert!(message.contains(words), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn a_registry_that_says_yes_to_everything_fails() {
    let url = server(YES);
    let directory = tempfile::tempdir().unwrap();
    let (json, junit) = (
        directory.path().join("r.json"),
        directory.path().join("r.xml"),
    );
    let output = conformance(
        &[
            "run",
            &url,
            "--only",
            "*.unknown.repository",
            "--only",
            "pull.api.base",
            "--json",
            json.to_str().unwrap(),
            "--junit",
            junit.to_str().unwrap(),
        ],
        &[],
    );
    assert_eq!(code(&output), Some(1));
    let text = stdout(&output);
    assert!(text.contains("pass  pull.api.base"), "{text}");
    assert!(
        text.contains("FAIL  pull.blob.unknown.repository"),
        "{text}"
    );
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("1 passed, ") && last.ends_with(", 0 skipped"),
        "{last}"
    );
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(report["totals"]["passed"], 1);
    let report = std::fs::read_to_string(junit).unwrap();
    assert!(
        report.contains("<testcase name=\"pull.api.base\""),
        "{report}"
    );
}

#[test]
fn checks_are_listed_with_level_and_version() {
    let output = conformance(&["list", "--only", "pull.blob.range.suffix"], &[]);
    assert_eq!(code(&output), Some(0));
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 1);
    for word in ["pull.blob.range.suffix", "SHOULD", "1.1.1", "Pulling blobs"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_missing_official_suite_is_a_skip() {
    let nowhere = tempfile::tempdir().unwrap();
    let url = server(YES);
    let output = conformance(&["official", &url], &[("PATH", nowhere.path())]);
    assert_eq!(code(&output), Some(0));
    let text = stdout(&output);
    assert!(
        text.contains("skipped: official suite not installed"),
        "{text}"
    );
    assert!(text.ends_with("0 passed, 0 failed, 1 skipped\n"), "{text}");
    let output = conformance(
        &["official", &url, "--require"],
        &[("PATH", nowhere.path())],
    );
    assert_eq!(code(&output), Some(1));
}

#[test]
fn a_missing_client_is_a_skip_or_with_a_flag_a_failure() {
    let nowhere = tempfile::tempdir().unwrap();
    let url = server(YES);
    let environment = [("PATH", nowhere.path()), ("CI", Path::new("false"))];
    let output = conformance(&["clients", &url], &environment);
    assert_eq!(code(&output), Some(0));
    let text = stdout(&output);
    assert!(text.contains("`crane` is not installed"), "{text}");
    let output = conformance(&["clients", &url, "--require-clients"], &environment);
    assert_eq!(code(&output), Some(1));
    let environment = [("PATH", nowhere.path()), ("CI", Path::new("true"))];
    assert_eq!(
        code(&conformance(&["clients", &url], &environment)),
        Some(1)
    );
}

/// Runs `conformance official` with a stand-in for the suite.
fn official(script: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let suite = directory.path().join("suite");
    // Not written by this process: a child that another test is just starting would hold the file
    // open for writing too, and until it is done with that nobody can execute it.
    let status = Command::new("/bin/sh")
        .args([
            "-c",
            r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#,
        ])
        .args([suite.as_os_str(), script.as_ref()])
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let url = server(YES);
    conformance(
        &["official", &url, "--spec-version", "dev"],
        &[("OCI_CONFORMANCE", &suite)],
    )
}

/// What a run writes, with one API's status open.
fn results(status: &str) -> String {
    format!(
        "cat > \"$OCI_RESULTS_DIR/results.yaml\" <<EOF\n\
         config:\n  registry: $OCI_REGISTRY\n  version: $OCI_VERSION\n\
         apis:\n  Ping: Pass\n  Blob anonymous mount: {status}\n\
         data:\n  Image: Pass\nEOF\n\
         echo 'Suite: Pass'; echo '  Suite/ping: Pass'\n"
    )
}

#[test]
fn the_official_suite_passes_without_failure_and_skip() {
    let output = official(&results("Pass"));
    assert_eq!(code(&output), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).ends_with("1 passed, 0 failed, 0 skipped\n"));
}

#[test]
fn a_skip_of_the_official_suite_is_a_failure() {
    for status in ["Skip", "FAIL", "Error"] {
        let output = official(&results(status));
        assert_eq!(code(&output), Some(1), "{}", stdout(&output));
        assert!(stdout(&output).contains("FAIL  Blob anonymous mount"));
    }
}

#[test]
fn an_official_suite_that_did_not_run_is_a_failure() {
    for script in [
        "echo 'failed to load config' >&2",
        "echo 'not: [yaml' > \"$OCI_RESULTS_DIR/results.yaml\"",
        "printf 'config: {registry: other, version: dev}\\napis: {a: Pass}\\ndata: {b: Pass}\\n' \
         > \"$OCI_RESULTS_DIR/results.yaml\"",
    ] {
        let output = official(script);
        assert_eq!(code(&output), Some(1), "{script}: {}", stdout(&output));
    }
}
