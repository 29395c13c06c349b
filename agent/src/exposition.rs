//! Metrics for whoever collects them: at `/metrics` on a loopback port or a unix socket, and in a
//! file. Used by `follow`.

use std::{
    fmt, fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result};
use deploy_agent::Metrics;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    time::{interval, timeout},
};

/// How often the file is written.
const EVERY: Duration = Duration::from_secs(15);
/// How long whoever asks may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any collector's question has.
const QUESTION_MAX: usize = 8 << 10;

/// Where metrics are served: a port of this machine, or a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Port(SocketAddr),
    Socket(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("`unix:` is followed by the path of a socket".to_owned()),
                path => Ok(Self::Socket(path.into())),
            };
        }
        let text = match text.strip_prefix("localhost:") {
            Some(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
            None => text.to_owned(),
        };
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Port(address)),
            Ok(_) => Err(
                "anybody could read it: name a loopback address such as 127.0.0.1:9101".to_owned(),
            ),
            Err(_) => {
                Err("write `127.0.0.1:9101`, `[::1]:9101` or `unix:/run/agent.sock`".to_owned())
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(address) => write!(formatter, "http://{address}/metrics"),
            Self::Socket(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Somebody who waits for questions.
pub(crate) enum Listener {
    Port(TcpListener),
    Socket(UnixListener),
}

impl Listener {
    /// Listens at a place; a socket that nobody listens at any more is replaced.
    pub(crate) async fn open(place: &Place) -> Result<Self> {
        let open = async || -> io::Result<Self> {
            Ok(match place {
                Place::Port(address) => Self::Port(TcpListener::bind(address).await?),
                Place::Socket(path) => {
                    remove_unused(path)?;
                    Self::Socket(UnixListener::bind(path)?)
                }
            })
        };
        let listener = open().await;
        let listener = listener.with_context(|| format!("cannot serve metrics at `{place}`"))?;
        match &listener {
            Self::Port(port) => {
                let address = port.local_addr().context("cannot serve metrics")?;
                tracing::info!("metrics are at http://{address}/metrics");
            }
            Self::Socket(_) => tracing::info!("metrics are at {place}"),
        }
        Ok(listener)
    }

    /// Answers whoever asks, one after the other, and never returns.
    pub(crate) async fn serve(self, metrics: &Metrics) {
        loop {
            let answered = match &self {
                Self::Port(listener) => match listener.accept().await {
                    Ok((stream, _)) => timeout(PATIENCE, answer(stream, metrics)).await,
                    Err(error) => Ok(Err(error)),
                },
                Self::Socket(listener) => match listener.accept().await {
                    Ok((stream, _)) => timeout(PATIENCE, answer(stream, metrics)).await,
                    Err(error) => Ok(Err(error)),
                },
            };
            if let Ok(Err(error)) = answered {
                tracing::debug!(%error, "metrics could not be given");
                // Where no file can be opened, none can be for a while.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn remove_unused(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    Ok(())
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    metrics: &Metrics,
) -> io::Result<()> {
    let mut question = Vec::new();
    while !question.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).await?;
        if count == 0 || question.len() > QUESTION_MAX {
            return Ok(());
        }
        question.extend_from_slice(&buffer[..count]);
    }
    let line = question.split(|byte| *byte == b'\r').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next());
    let path = target.and_then(|target| target.split('?').next());
    let (status, body) = match (method, path) {
        ("GET" | "HEAD", Some("/metrics")) => ("200 OK", metrics.to_string()),
        ("GET" | "HEAD", _) => ("404 Not Found", "there is /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "GET /metrics\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// Writes a file again and again, and never returns. Where it cannot be written the log says so
/// once.
pub(crate) async fn keep(path: &Path, metrics: &Metrics) {
    let mut ticks = interval(EVERY);
    let mut failed = false;
    loop {
        ticks.tick().await;
        let written = metrics.write(path);
        let fails = written.is_err();
        if let Err(error) = written
            && !failed
        {
            tracing::warn!("{:#}", anyhow::Error::from(error));
        }
        failed = fails;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_for_this_machine_alone() {
        for (text, shown) in [
            ("127.0.0.1:9101", "http://127.0.0.1:9101/metrics"),
            ("localhost:9101", "http://127.0.0.1:9101/metrics"),
            ("[::1]:0", "http://[::1]:0/metrics"),
            ("unix:/run/agent.sock", "unix:/run/agent.sock"),
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), shown);
        }
        for wrong in [
            "0.0.0.0:9101",
            "[::]:9101",
            "9101",
            "unix:",
            "example.org:1",
        ] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    async fn ask(question: &str) -> String {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        near.write_all(question.as_bytes()).await.unwrap();
        answer(far, &Metrics::default()).await.unwrap();
        let mut text = String::new();
        near.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn questions_are_answered_with_metrics_or_with_where_they_are() {
        for (question, status, body) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", "200", "deploy_agent_info{"),
            (
                "GET /metrics?x=y HTTP/1.1\r\nA: b\r\n\r\n",
                "200",
                "deploy_agent_info{",
            ),
            ("GET / HTTP/1.1\r\n\r\n", "404", "there is /metrics"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405", "GET /metrics"),
        ] {
            let text = ask(question).await;
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert!(text.contains(body), "{text}");
        }
        let head = ask("HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert!(
            head.ends_with("\r\n\r\n") && !head.contains("deploy_agent_info"),
            "{head}"
        );
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::Socket(directory.path().join("socket"));
        let first = Listener::open(&place).await.unwrap();
        assert!(Listener::open(&place).await.is_err());
        drop(first);
        Listener::open(&place).await.unwrap();
    }
}
