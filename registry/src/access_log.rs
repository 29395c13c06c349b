//! The access log: a line for each request, once all of it is over. Opened by `main`; filled by
//! `http`.
//!
//! Requests never wait for who reads it: lines are handed to a thread that writes what has come
//! together. Where it cannot keep up, lines are left out, and the next one says how many.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

const KIB: usize = 1024;
/// What waits to be written at most.
const PENDING_MAX: usize = 1024 * KIB;
/// Lines come together for as long, so that a busy server does not pay for each.
const PAUSE: Duration = Duration::from_millis(20);

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// Words and `name=value`, for people.
    Text,
    /// An object a line, for programs.
    Json,
}

/// A log of requests, or none. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct AccessLog(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    format: AccessFormat,
    pending: Mutex<Pending>,
    more: Condvar,
    /// Taken by whoever writes, for as long as it does.
    target: Mutex<Target>,
}

#[derive(Debug, Default)]
struct Pending {
    lines: Vec<u8>,
    left_out: u64,
}

#[derive(Debug)]
enum Target {
    Stderr,
    File(PathBuf, File),
}

impl AccessLog {
    /// Returns one that says nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Returns one on standard error.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn stderr(format: AccessFormat) -> io::Result<Self> {
        Self::start(format, Target::Stderr)
    }

    /// Returns one at the end of a file, which is created where there is none.
    ///
    /// # Errors
    /// Where the file cannot be opened, or no thread started.
    pub fn file(format: AccessFormat, path: &Path) -> io::Result<Self> {
        Self::start(format, Target::File(path.to_owned(), open(path)?))
    }

    fn start(format: AccessFormat, target: Target) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            format,
            pending: Mutex::default(),
            more: Condvar::new(),
            target: Mutex::new(target),
        });
        let log = Arc::downgrade(&inner);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                while let Some(log) = log.upgrade() {
                    log.wait();
                    log.write();
                    drop(log);
                    std::thread::sleep(PAUSE);
                }
            })?;
        Ok(Self(Some(inner)))
    }

    /// Opens the file anew, after somebody moved it away.
    ///
    /// # Errors
    /// Where it cannot be opened; the old one is written on.
    pub fn reopen(&self) -> io::Result<()> {
        let Some(log) = &self.0 else {
            return Ok(());
        };
        // What was said until now belongs to the old one.
        log.write();
        let mut target = lock(&log.target);
        if let Target::File(path, file) = &mut *target {
            *file = open(path)?;
        }
        Ok(())
    }

    /// Writes what waits.
    pub fn flush(&self) {
        if let Some(log) = &self.0 {
            log.write();
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Adds a line.
    pub(crate) fn add(&self, entry: &Entry<'_>) {
        let Some(log) = &self.0 else {
            return;
        };
        let mut line = match log.format {
            AccessFormat::Text => entry.text(),
            AccessFormat::Json => entry.json(),
        };
        line.push('\n');
        let mut pending = lock(&log.pending);
        if pending.lines.len() + line.len() > PENDING_MAX {
            pending.left_out += 1;
            return;
        }
        let first = pending.lines.is_empty();
        pending.lines.extend_from_slice(line.as_bytes());
        drop(pending);
        if first {
            log.more.notify_one();
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// Returns when there is something to write, or after a while.
    fn wait(&self) {
        // Not for ever: a log that nobody holds any more ends its thread.
        const LOOK_UP: Duration = Duration::from_secs(1);
        let pending = lock(&self.pending);
        let empty = |pending: &mut Pending| pending.lines.is_empty();
        drop(self.more.wait_timeout_while(pending, LOOK_UP, empty));
    }

    fn write(&self) {
        let mut target = lock(&self.target);
        let Pending {
            mut lines,
            left_out,
        } = std::mem::take(&mut *lock(&self.pending));
        if left_out > 0 {
            lines.extend_from_slice(self.left_out(left_out).as_bytes());
        }
        if lines.is_empty() {
            return;
        }
        let written = match &mut *target {
            Target::Stderr => io::stderr().lock().write_all(&lines),
            Target::File(_, file) => file.write_all(&lines),
        };
        if let Err(error) = written {
            tracing::error!(%error, "cannot write the access log");
        }
    }

    fn left_out(&self, number: u64) -> String {
        let time = Timestamp::now();
        match self.format {
            AccessFormat::Text => format!("{time:.3} ACCESS left_out={number}\n"),
            AccessFormat::Json => {
                format!("{{\"timestamp\":\"{time:.3}\",\"left_out\":{number}}}\n")
            }
        }
    }
}

/// What a line says.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry<'a> {
    #[serde(serialize_with = "milliseconds")]
    pub(crate) timestamp: Timestamp,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    /// Bytes of the request's body.
    pub(crate) received_bytes: u64,
    /// Bytes of the answer's body.
    pub(crate) sent_bytes: u64,
    /// From the request's head to the end of the answer's body.
    pub(crate) duration_seconds: f64,
    /// Whether the answer's body went out whole.
    pub(crate) complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<&'a str>,
    pub(crate) request_id: &'a str,
}

fn milliseconds<S: serde::Serializer>(
    time: &Timestamp,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

impl Entry<'_> {
    fn text(&self) -> String {
        let mut line = String::with_capacity(256);
        let (time, method, status) = (self.timestamp, self.method, self.status);
        let (received, sent) = (self.received_bytes, self.sent_bytes);
        let milliseconds = self.duration_seconds * 1000.0;
        let (path, id) = (Quoted(self.path), self.request_id);
        let written = write!(
            line,
            "{time:.3} ACCESS {method} {path} {status} in={received} out={sent} ms={milliseconds:.3} id={id}"
        )
        .and_then(|()| match self.peer {
            Some(peer) => write!(line, " peer={peer}"),
            None => Ok(()),
        })
        .and_then(|()| match self.agent {
            Some(agent) => write!(line, " agent=\"{}\"", Quoted(agent)),
            None => Ok(()),
        })
        .and_then(|()| match self.complete {
            true => Ok(()),
            false => line.write_str(" broken"),
        });
        written.expect("strings take everything");
        line
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("entries are plain structures")
    }
}

/// Text of a client's, without what could pass for the end of a word, a quote or a line.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if self.0.bytes().all(|byte| plain(byte) || byte == b' ') {
            return formatter.write_str(self.0);
        }
        self.0.escape_debug().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            timestamp: "2026-01-02T03:04:05.678901Z".parse().unwrap(),
            method: "GET",
            path: "/v2/a/blobs/x",
            status: 200,
            received_bytes: 0,
            sent_bytes: 12,
            duration_seconds: 0.001_25,
            complete: true,
            peer: Some("127.0.0.1:7".parse().unwrap()),
            agent: Some("curl/8 \"\n"),
            request_id: "a1",
        }
    }

    #[test]
    fn lines_say_what_happened_and_cannot_be_forged() {
        let broken = Entry {
            complete: false,
            peer: None,
            agent: None,
            ..entry()
        };
        assert_eq!(
            entry().text(),
            r#"2026-01-02T03:04:05.678Z ACCESS GET /v2/a/blobs/x 200 in=0 out=12 ms=1.250 id=a1 peer=127.0.0.1:7 agent="curl/8 \"\n""#
        );
        assert!(broken.text().ends_with("ms=1.250 id=a1 broken"));
        assert_eq!(
            entry().json(),
            r#"{"timestamp":"2026-01-02T03:04:05.678Z","method":"GET","path":"/v2/a/blobs/x","status":200,"received_bytes":0,"sent_bytes":12,"duration_seconds":0.00125,"complete":true,"peer":"127.0.0.1:7","agent":"curl/8 \"\n","request_id":"a1"}"#
        );
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let log = AccessLog::file(AccessFormat::Text, &path).unwrap();
        log.add(&entry());
        log.flush();
        std::fs::rename(&path, &moved).unwrap();
        log.add(&entry());
        log.flush();
        log.reopen().unwrap();
        log.add(&entry());
        log.flush();
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&moved), lines(&path)), (2, 1));
    }

    #[test]
    fn a_reader_that_stalls_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = AccessLog::file(AccessFormat::Text, &path).unwrap();
        let inner = log.0.as_ref().unwrap();
        let stalled = lock(&inner.target);
        for _ in 0..20_000 {
            log.add(&entry());
        }
        drop(stalled);
        log.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() < PENDING_MAX + KIB);
        assert!(text.lines().last().unwrap().contains(" left_out="));
    }
}
