//! A server that speaks S3, with buckets that are there. Called by the scenarios and by `replicas`.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::server::Server;
use crate::{http, wait};

const KEY: &str = "tests";
const SECRET: &str = "not-a-secret-in-tests";

/// A running MinIO on an empty directory. Dropping it kills it and removes the directory.
#[derive(Debug)]
pub struct Minio {
    // Before the directory, which has to outlive the process.
    server: Server,
    address: SocketAddr,
    directory: TempDir,
}

impl Minio {
    /// The name of its program, for [`peers::find`](crate::peers::find).
    pub const PROGRAM: &str = "minio";
    /// The bucket that is there.
    pub const BUCKET: &str = "registry";

    /// Starts the one that `program` is.
    ///
    /// # Panics
    /// When it does not come up; the message holds its log.
    pub fn start(program: &Path) -> Self {
        const ATTEMPTS: usize = 3;
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        // A directory is a bucket.
        std::fs::create_dir_all(directory.path().join("data").join(Self::BUCKET))
            .expect("a new directory can hold another");
        for attempt in 1.. {
            // It takes no port 0. Somebody may be faster than it is: then another one is tried.
            let address = free_address();
            let mut command = Command::new(program);
            command
                .args(["server", "--quiet", "--address", &address.to_string()])
                .arg(directory.path().join("data"))
                .env("MINIO_ROOT_USER", KEY)
                .env("MINIO_ROOT_PASSWORD", SECRET)
                .env("MINIO_BROWSER", "off")
                // A temporary directory may be on the disk that the system is on.
                .env("MINIO_CI_CD", "1")
                .env("HOME", directory.path());
            let mut server =
                Server::start(command, directory.path().join("log")).expect("MinIO starts");
            let up = wait::until(wait::PATIENCE, || {
                let answer = http::get(&address.to_string(), "/minio/health/ready");
                let ready = answer.is_ok_and(|answer| answer.status == 200);
                (ready || server.ended()).then_some(ready)
            });
            if up == Some(true) {
                return Self {
                    server,
                    address,
                    directory,
                };
            }
            assert!(
                attempt < ATTEMPTS,
                "MinIO does not come up\n{}",
                server.log()
            );
        }
        unreachable!("the loop returns or panics")
    }

    /// The environment with which clients find it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ]
    }

    /// How many multipart uploads are neither completed nor aborted.
    pub fn open_multipart_uploads(&self) -> usize {
        let objects = self.directory.path().join("data/.minio.sys/multipart");
        let Ok(objects) = std::fs::read_dir(objects) else {
            return 0;
        };
        let uploads = |object: std::io::Result<std::fs::DirEntry>| {
            object.and_then(|object| std::fs::read_dir(object.path()))
        };
        objects
            .filter_map(|object| uploads(object).ok())
            .map(Iterator::count)
            .sum()
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        self.server.log()
    }
}

/// An address on loopback that nobody listens on at this moment.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a free port")
}
