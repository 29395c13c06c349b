//! The program as a process: what it refuses, what it says, and that killing it loses nothing.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use deploy_spec::Digest;
use reqwest::Client;
use tokio::sync::Notify;

use crate::harness::{content, image};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deploy-registry"));
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Runs the program to its end.
pub(crate) fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = program(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// The program while it serves; killed when dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Process {
    pub(crate) fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[])
    }

    pub(crate) fn start_with(directory: &Path, more: &[&str]) -> Self {
        let directory = directory.to_str().unwrap();
        let arguments = [
            "-addr",
            "127.0.0.1:0",
            "-dir",
            directory,
            "--anonymous",
            "write",
        ];
        Self::serve(&[&arguments, more].concat())
    }

    /// Starts it with these flags and waits until it listens.
    pub(crate) fn serve(arguments: &[&str]) -> Self {
        let mut child = program(arguments).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let url = loop {
            let mut line = String::new();
            assert_ne!(
                log.read_line(&mut line).unwrap(),
                0,
                "it ended before it listened"
            );
            if let Some((_, address)) = line.split_once("listening address=") {
                break format!("http://{}", address.split_whitespace().next().unwrap());
            }
        };
        // Whoever reads no more would make it fail to write.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, url }
    }

    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn flags_that_would_let_strangers_in_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().to_str().unwrap();
    let cases: [(&[&str], &str); 6] = [
        (
            &[],
            "hint: name a file of public keys with `--opauth` or of users with `--htpasswd`, or let everybody on this machine read and write, with `--anonymous write`",
        ),
        (
            &["-anonymous", "read"],
            "hint: name a file of operators' public keys",
        ),
        (
            &["-anonymous", "write", "-addr", "0.0.0.0:0"],
            "`0.0.0.0:0` is no loopback address",
        ),
        (
            &["-anonymous", "write", "-addr", ":2022"],
            "`:2022` is no loopback address",
        ),
        (
            &["-anonymous", "write", "-addr", "nonsense"],
            "`nonsense` is no address to listen on",
        ),
        (&["-anonymous", "write", "-maxver", "-1"], "-1"),
    ];
    for (arguments, message) in cases {
        let arguments = [&["-dir", directory], arguments].concat();
        let (code, text) = refused(&arguments);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(message), "{text}");
    }
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0);
}

#[test]
fn directories_that_cannot_be_used_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let absent = directory.path().join("absent");
    for (path, hint) in [
        (&absent, "hint: create it"),
        (&file, "hint: it must be a directory"),
    ] {
        let path = path.to_str().unwrap();
        let (code, text) = refused(&["-addr", "127.0.0.1:0", "-dir", path, "-anonymous", "write"]);
        assert_eq!(code, Some(1));
        assert!(
            text.contains(&format!("cannot open directory `{path}`")) && text.contains(hint),
            "{text}"
        );
    }
    let first = Process::start(directory.path());
    let path = directory.path().to_str().unwrap();
    let (code, text) = refused(&["-addr", "127.0.0.1:0", "-dir", path, "-anonymous", "write"]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains(&format!("is in use by process {}", first.child.id())),
        "{text}"
    );
    assert_eq!(first.terminate(), Some(0));
}

#[test]
fn port_in_use_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let path = directory.path().to_str().unwrap();
    let (code, text) = refused(&["-addr", &address, "-dir", path, "-anonymous", "write"]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains(&format!("cannot listen on `{address}`")),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_before_kill_is_there_afterwards() {
    const ROUNDS: u64 = 6;
    const PUSHERS: u64 = 4;
    let directory = tempfile::tempdir().unwrap();
    let client = Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap();
    let mut acknowledged: Vec<(String, Digest)> = Vec::new();
    for round in 0..ROUNDS {
        let mut process = Process::start(directory.path());
        let pushed = Arc::new(Notify::new());
        let pushers: Vec<_> = (0..PUSHERS)
            .map(|pusher| {
                tokio::spawn(push_until_it_fails(
                    client.clone(),
                    process.url.clone(),
                    round * PUSHERS + pusher,
                    pushed.clone(),
                ))
            })
            .collect();
        let first = tokio::time::timeout(PATIENCE, pushed.notified()).await;
        first.expect("somebody pushes something");
        // Somewhere within what the pushers do, elsewhere each time: the moment is what is
        // random here, and nothing more is waited for.
        tokio::time::sleep(Duration::from_millis(37 * round)).await;
        process.child.kill().unwrap();
        for pusher in pushers {
            acknowledged.extend(pusher.await.unwrap());
        }
    }
    let process = Process::start(directory.path());
    for (path, digest) in acknowledged {
        let response = client
            .get(format!("{}{path}", process.url))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(
            Digest::sha256(&response.bytes().await.unwrap()),
            digest,
            "{path}"
        );
    }
    // What is listed is there.
    let tags: serde_json::Value = client
        .get(format!("{}/v2/a/tags/list", process.url))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    for tag in tags["tags"].as_array().into_iter().flatten() {
        let path = format!("{}/v2/a/manifests/{}", process.url, tag.as_str().unwrap());
        assert_eq!(client.get(path).send().await.unwrap().status(), 200);
    }
    assert_eq!(process.terminate(), Some(0));
}

/// Pushes blobs in all styles, and manifests, and returns the paths of all that was acknowledged.
/// Notifies of each blob that was.
async fn push_until_it_fails(
    client: Client,
    url: String,
    seed: u64,
    pushed: Arc<Notify>,
) -> Vec<(String, Digest)> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let size = [100, 50_000, 300_000][number % 3];
        let bytes = content(size, seed * 10_000 + number as u64);
        let digest = Digest::sha256(&bytes);
        let answer = match number % 2 {
            0 => {
                client
                    .post(format!("{url}/v2/a/blobs/uploads/?digest={digest}"))
                    .body(bytes)
                    .send()
                    .await
            }
            _ => push_in_chunks(&client, &url, &bytes, &digest).await,
        };
        if !answer.is_ok_and(|response| response.status() == 201) {
            break;
        }
        acknowledged.push((format!("/v2/a/blobs/{digest}"), digest.clone()));
        pushed.notify_one();
        let manifest = image(&digest, &[]).to_string();
        let path = format!("/v2/a/manifests/t{seed}-{number}");
        let expected = Digest::sha256(manifest.as_bytes());
        let request = client
            .put(format!("{url}{path}"))
            .header("content-type", crate::harness::MANIFEST);
        if !(request.body(manifest).send().await).is_ok_and(|response| response.status() == 201) {
            break;
        }
        acknowledged.push((path, expected));
    }
    acknowledged
}

async fn push_in_chunks(
    client: &Client,
    url: &str,
    bytes: &[u8],
    digest: &Digest,
) -> reqwest::Result<reqwest::Response> {
    let response = client
        .post(format!("{url}/v2/a/blobs/uploads/"))
        .send()
        .await?
        .error_for_status()?;
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    client
        .patch(format!("{url}{location}"))
        .body(half.to_vec())
        .send()
        .await?
        .error_for_status()?;
    client
        .put(format!("{url}{location}?digest={digest}"))
        .body(rest.to_vec())
        .send()
        .await
}
