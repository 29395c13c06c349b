//! Starts distribution, the first peer that others are compared with, where it is installed.
//! For `bench`.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use super::arguments::Address;

/// So long it may take to listen.
const START: Duration = Duration::from_secs(10);
/// Another program may take the port between our look and its start.
const TRIES: usize = 3;

/// A running distribution with its store in a temporary directory; both end with this.
pub(crate) struct Distribution {
    process: Child,
    port: u16,
    _directory: TempDir,
}

impl Distribution {
    /// Starts `binary` as its documentation configures it: files, with the descriptor cache. It
    /// writes no log, which would cost it more than some requests do.
    pub(crate) fn start(binary: &Path) -> anyhow::Result<Self> {
        for _ in 0..TRIES {
            if let Some(started) = Self::try_start(binary)? {
                return Ok(started);
            }
        }
        bail!("`{}` does not start to listen", binary.display())
    }

    fn try_start(binary: &Path) -> anyhow::Result<Option<Self>> {
        let directory = tempfile::tempdir().context("make a directory for distribution")?;
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .context("find a free port")?
            .port();
        let configuration = directory.path().join("config.yml");
        let store = directory.path().join("store");
        let text = format!(
            "version: 0.1\n\
             log: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {store:?}}}, \
             cache: {{blobdescriptor: inmemory}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n"
        );
        std::fs::write(&configuration, text).context("configure distribution")?;
        let process = Command::new(binary)
            .arg("serve")
            .arg(&configuration)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start `{}`", binary.display()))?;
        let mut started = Self {
            process,
            port,
            _directory: directory,
        };
        let began = Instant::now();
        while began.elapsed() < START && started.process.try_wait()?.is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(Some(started));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(None)
    }

    /// How it would be named on the command line.
    pub(crate) fn address(&self) -> Address {
        Address {
            name: "distribution".into(),
            authority: format!("127.0.0.1:{}", self.port),
            process: Some(self.process.id()),
        }
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
