//! Each request leaves one line, once all of it is over.

use std::path::{Path, PathBuf};

use deploy_registry::{AccessFormat, AccessLog, ServerSettings, Store};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{TestRegistry, content};

struct Logged {
    registry: TestRegistry,
    log: AccessLog,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Logged {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        std::fs::create_dir(&store).unwrap();
        let path = directory.path().join("access");
        let log = AccessLog::file(AccessFormat::Json, &path).unwrap();
        let settings = ServerSettings {
            access_log: log.clone(),
            ..ServerSettings::default()
        };
        Self {
            registry: TestRegistry::with(Store::open(&store).unwrap(), settings).await,
            log,
            path,
            _directory: directory,
        }
    }

    /// Returns the lines, once there are as many.
    async fn lines(&self, number: usize) -> Vec<Value> {
        loop {
            self.log.flush();
            let lines = read(&self.path);
            if lines.len() >= number {
                assert_eq!(lines.len(), number);
                return lines;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn requests_leave_a_line_with_what_was_moved() {
    let logged = Logged::start().await;
    let digest = logged.registry.push("a", vec![7; 100_000]).await;
    let blob = format!("/v2/a/blobs/{digest}");
    let pulled = logged
        .registry
        .request("GET", &blob)
        .header("user-agent", "tester/1 \"x\"")
        .header("x-request-id", "mine")
        .send();
    assert_eq!(pulled.await.unwrap().bytes().await.unwrap().len(), 100_000);
    logged.registry.send("HEAD", &blob).await;
    logged.registry.send("GET", "/nothing%22here").await;
    // Without a length among its own headers.
    logged.registry.send("GET", "/readyz").await;
    let lines = logged.lines(5).await;
    let summary = |line: &Value| {
        let number = |key: &str| line[key].as_u64().unwrap();
        (
            format!("{} {}", line["method"], number("status")),
            number("received_bytes"),
            number("sent_bytes"),
        )
    };
    assert_eq!(summary(&lines[0]), ("\"POST\" 201".into(), 100_000, 0));
    assert_eq!(summary(&lines[1]), ("\"GET\" 200".into(), 0, 100_000));
    assert_eq!(summary(&lines[2]), ("\"HEAD\" 200".into(), 0, 0));
    assert_eq!(lines[1]["path"], blob);
    assert_eq!(lines[1]["agent"], "tester/1 \"x\"");
    assert_eq!(lines[1]["request_id"], "mine");
    assert!(lines[1]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(lines[3]["status"], 404);
    assert_eq!(lines[4]["sent_bytes"], 3);
    for line in &lines {
        assert_eq!(line["complete"], true, "{line}");
        assert!(line["duration_seconds"].as_f64().unwrap() > 0.0);
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }
}

#[tokio::test]
async fn an_answer_that_broke_off_is_told_from_a_whole_one() {
    let logged = Logged::start().await;
    // More than all the buffers in between can hold.
    let digest = logged.registry.push("a", content(32 << 20, 1)).await;
    let mut connection = tokio::net::TcpStream::connect(logged.registry.address)
        .await
        .unwrap();
    let head = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.read_exact(&mut [0; 1024]).await.unwrap();
    drop(connection);
    let lines = logged.lines(2).await;
    assert_eq!(lines[1]["status"], 200);
    assert_eq!(lines[1]["complete"], false);
    assert!(lines[1]["sent_bytes"].as_u64().unwrap() < 32 << 20);
}
