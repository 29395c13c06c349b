//! The verbs `gc` and `scrub` as a person calls them, and a process that is killed while it
//! collects.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use deploy_spec::Digest;
use reqwest::Client;
use serde_json::Value;

use crate::{
    harness::{MANIFEST, content, image},
    program::Process,
};

fn verb(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_deploy-registry"))
        .args(&arguments[..1])
        .args(["--dir", directory.to_str().unwrap()])
        .args(&arguments[1..])
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn push(client: &Client, url: &str, bytes: Vec<u8>) -> Option<Digest> {
    let digest = Digest::sha256(&bytes);
    let pushed = client
        .post(format!("{url}/v2/a/blobs/uploads/?digest={digest}"))
        .body(bytes)
        .send()
        .await;
    pushed
        .is_ok_and(|response| response.status() == 201)
        .then_some(digest)
}

async fn push_image(client: &Client, url: &str, tag: &str, bytes: Vec<u8>) -> Option<Digest> {
    let layer = push(client, url, bytes).await?;
    let pushed = client
        .put(format!("{url}/v2/a/manifests/{tag}"))
        .header("content-type", MANIFEST)
        .body(image(&layer, &[]).to_string())
        .send()
        .await;
    pushed
        .is_ok_and(|response| response.status() == 201)
        .then_some(layer)
}

fn client() -> Client {
    Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gc_works_through_the_process_that_serves_and_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    let client = client();
    let kept = push_image(&client, &process.url, "v1", content(100_000, 1))
        .await
        .unwrap();
    for seed in 2..5 {
        push(&client, &process.url, content(100_000, seed))
            .await
            .unwrap();
    }
    let zero = [
        "gc",
        "--gc-grace",
        "0",
        "--gc-rate",
        "0",
        "--output",
        "json",
    ];
    let dry = [&zero[..], &["--dry-run"]].concat();
    let said = json(&verb(directory.path(), &dry));
    assert_eq!(said["dry_run"], true);
    assert_eq!(said["blobs"]["condemned"], 3);
    let done = json(&verb(directory.path(), &zero));
    assert_eq!(done["blobs"]["removed"], 3);
    assert_eq!(done["blobs"]["removed_bytes"], 300_000);
    let metrics = client.get(format!("{}/metrics", process.url));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("deploy_registry_gc_rounds_total 1\n"),
        "{metrics}"
    );
    assert!(metrics.contains("deploy_registry_gc_removed_bytes_total{kind=\"blobs\"} 300000\n"));
    let scrubbed = json(&verb(directory.path(), &["scrub", "--output", "json"]));
    assert_eq!(
        (&scrubbed["blobs"], &scrubbed["manifests"]),
        (&1.into(), &1.into())
    );
    // Nobody but its owner may ask.
    let mode = std::os::unix::fs::MetadataExt::mode(
        &std::fs::symlink_metadata(directory.path().join(".control")).unwrap(),
    );
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(process.terminate(), Some(0));

    let text = verb(directory.path(), &["gc", "--gc-grace", "0"]);
    assert!(text.status.success(), "{text:?}");
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("blobs")), "{text}");
    let again = json(&verb(directory.path(), &zero));
    assert_eq!(
        (&again["blobs"]["found"], &again["blobs"]["removed"]),
        (&1.into(), &0.into())
    );
    let hex = kept.hex();
    let record = directory
        .path()
        .join(format!("blobs/sha256/{}/{hex}", &hex[..2]));
    assert!(record.exists());
    std::fs::write(record, "nonsense").unwrap();
    let output = verb(directory.path(), &["scrub"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("hurts a:v1"), "{text}");
    let discarded = json(&verb(
        directory.path(),
        &["scrub", "--discard", "--output", "json"],
    ));
    assert_eq!(discarded["discarded"], 1);
}

#[test]
fn collecting_what_is_served_read_only_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start_with(directory.path(), &["--read-only"]);
    let output = verb(directory.path(), &["gc"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("hint: it serves read-only"), "{text}");
    assert_eq!(process.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_survives_a_kill_while_collecting() {
    const ROUNDS: u64 = 4;
    let directory = tempfile::tempdir().unwrap();
    let client = client();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut process = Process::start(directory.path());
        for number in 0..30 {
            let seed = round * 1000 + number;
            let size = [100, 70_000][usize::try_from(number % 2).unwrap()];
            let bytes = content(size, seed);
            match number % 3 {
                0 => {
                    let tag = format!("t{seed}");
                    let layer = push_image(&client, &process.url, &tag, bytes)
                        .await
                        .unwrap();
                    acknowledged.push((tag, layer));
                }
                _ => {
                    push(&client, &process.url, bytes).await.unwrap();
                }
            }
        }
        let collector = {
            let directory = directory.path().to_owned();
            let zero = ["gc", "--gc-grace", "0", "--gc-rate", "1000"];
            std::thread::spawn(move || verb(&directory, &zero))
        };
        // Somewhere within what the collector does, elsewhere each time.
        tokio::time::sleep(Duration::from_millis(15 + 40 * round)).await;
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        collector.join().unwrap();
    }
    let last = ["gc", "--gc-grace", "0", "--output", "json"];
    json(&verb(directory.path(), &last));
    let done = json(&verb(directory.path(), &last));
    assert_eq!(done["blobs"]["found"], acknowledged.len());
    assert_eq!(done["blobs"]["removed"], 0);
    let process = Process::start(directory.path());
    for (tag, layer) in acknowledged {
        let manifest = format!("{}/v2/a/manifests/{tag}", process.url);
        assert_eq!(client.get(manifest).send().await.unwrap().status(), 200);
        let blob = format!("{}/v2/a/blobs/{layer}", process.url);
        let bytes = client
            .get(blob)
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        assert_eq!(Digest::sha256(&bytes), layer);
    }
    assert_eq!(process.terminate(), Some(0));
}
