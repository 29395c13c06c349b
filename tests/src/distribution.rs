//! The CNCF distribution registry, as the server that is not ours: it knows neither conditional puts nor
//! long poll. Called by the scenarios.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::server::Server;

/// A running distribution registry on an empty directory, with deletes switched on. Dropping it kills it and
/// removes the directory.
#[derive(Debug)]
pub struct Distribution {
    // Before the directory, which has to outlive the process.
    _server: Server,
    address: SocketAddr,
    _directory: TempDir,
}

impl Distribution {
    /// The name of its program, for [`peers::find`](crate::peers::find).
    pub const PROGRAM: &str = "registry";

    /// Starts the one that `program` is.
    ///
    /// # Panics
    /// When it does not come up; the message holds its log.
    pub fn start(program: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let configuration = directory.path().join("configuration.yaml");
        std::fs::create_dir(directory.path().join("data"))
            .expect("a new directory can hold another");
        std::fs::write(
            &configuration,
            format!(
                "version: 0.1\n\
                 log: {{level: info, accesslog: {{disabled: true}}}}\n\
                 storage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
                 http: {{addr: '127.0.0.1:0'}}\n",
                directory.path().join("data").display()
            ),
        )
        .expect("a new directory can be written to");
        let mut command = Command::new(program);
        command
            .arg("serve")
            .arg(&configuration)
            .env("OTEL_TRACES_EXPORTER", "none");
        let mut server =
            Server::start(command, directory.path().join("log")).expect("distribution starts");
        let address = server.address().expect("distribution listens");
        Self {
            _server: server,
            address,
            _directory: directory,
        }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}
