//! A kept-alive HTTP/1.1 connection that costs as little as it can: one `writev` for a request,
//! one read for a small answer, and large bodies dropped in the kernel. For `work` and `prepare`.
//!
//! Blocking, one thread a connection: cheaper than an event loop with these few clients, and it
//! can not delay one client for another.

use std::io::{self, IoSlice, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// So long a server may take for the next bytes of an answer, or to take some of a request.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is read before it is known how long a body is.
const HEAD: usize = 16 * 1024;

/// How much of a large body one system call drops.
const GULP: usize = 1024 * 1024;

/// What came back, as far as load needs it.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Path and query of `Location`.
    pub(crate) location: Option<String>,
    /// The length of the body that was read.
    pub(crate) length: u64,
}

/// What becomes of a body.
enum Sink<'a> {
    Drop,
    Keep(&'a mut Vec<u8>),
}

/// How a body ends.
enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

/// One client's connection; opened when first used, and again after an error.
pub(crate) struct Connection {
    address: SocketAddr,
    authority: String,
    stream: Option<TcpStream>,
    /// Most of it is never touched, so that it takes address space and no memory.
    buffer: Vec<u8>,
    /// What of the buffer is read from the socket and not yet used.
    start: usize,
    end: usize,
}

impl Connection {
    /// A connection to a registry, not opened yet.
    pub(crate) fn new(address: SocketAddr, authority: &str) -> Self {
        Self {
            address,
            authority: authority.to_owned(),
            stream: None,
            buffer: vec![0; GULP],
            start: 0,
            end: 0,
        }
    }

    /// The head of a request, to be sent as often as wanted. `headers` are whole lines.
    pub(crate) fn head(&self, method: &str, path: &str, headers: &str) -> String {
        let authority = &self.authority;
        format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n")
    }

    /// Connects, where it is not connected.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            self.stream = Some(stream);
            (self.start, self.end) = (0, 0);
        }
        Ok(())
    }

    /// Sends a request and drops the body of the answer. After an error the next call connects
    /// anew.
    pub(crate) fn exchange(&mut self, parts: &[&[u8]]) -> anyhow::Result<Answer> {
        self.guarded(parts, Sink::Drop)
    }

    /// As `exchange`, but answers the body too.
    pub(crate) fn exchange_kept(&mut self, parts: &[&[u8]]) -> anyhow::Result<(Answer, Vec<u8>)> {
        let mut body = Vec::new();
        let answer = self.guarded(parts, Sink::Keep(&mut body))?;
        Ok((answer, body))
    }

    fn guarded(&mut self, parts: &[&[u8]], sink: Sink<'_>) -> anyhow::Result<Answer> {
        let answer = self.try_exchange(parts, sink);
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    fn try_exchange(&mut self, parts: &[&[u8]], mut sink: Sink<'_>) -> anyhow::Result<Answer> {
        self.open().context("connect")?;
        let to_head = parts.first().is_some_and(|head| head.starts_with(b"HEAD "));
        self.send(parts).context("send a request")?;
        let head = self.read_head().context("read an answer")?;
        let text = std::str::from_utf8(&self.buffer[self.start..head])
            .context("read the head of an answer")?;
        let (mut answer, mut framing, close) = parse_head(text)?;
        self.start = head;
        if to_head || matches!(answer.status, 204 | 304) {
            framing = Framing::None;
        }
        answer.length = self
            .body(&framing, &mut sink)
            .context("read the body of an answer")?;
        if close || matches!(framing, Framing::Close) {
            self.stream = None;
        }
        Ok(answer)
    }

    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = slices.as_mut_slice();
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        // Empty slices at the front would make a write of nothing look like an end.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match stream.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads until a head is whole; answers where it ends in the buffer.
    fn read_head(&mut self) -> io::Result<usize> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
                return Ok(self.start + at + 4);
            }
            self.fill()?;
        }
    }

    /// Reads some more behind what is there, moved to the front where nothing is left behind it.
    fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end >= HEAD {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end >= HEAD {
                return Err(io::Error::other("a head or chunk size without end"));
            }
        }
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let read = receive(
            stream,
            &mut self.buffer[self.end..HEAD.max(self.end + 1)],
            RecvFlags::empty(),
        )?;
        self.end += read;
        Ok(())
    }

    fn body(&mut self, framing: &Framing, sink: &mut Sink<'_>) -> io::Result<u64> {
        match *framing {
            Framing::None => Ok(0),
            Framing::Length(length) => self.take(length, sink).map(|()| length),
            Framing::Chunked => self.chunks(sink),
            Framing::Close => {
                let mut length = 0;
                loop {
                    if self.start == self.end {
                        match self.fill() {
                            Ok(()) => {}
                            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                                return Ok(length);
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    let there = (self.end - self.start) as u64;
                    self.take(there, sink)?;
                    length += there;
                }
            }
        }
    }

    fn chunks(&mut self, sink: &mut Sink<'_>) -> io::Result<u64> {
        let mut length = 0;
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16)
                .map_err(|_| io::Error::other(format!("`{line}` is no chunk size")))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(length);
            }
            self.take(size, sink)?;
            self.line()?;
            length += size;
        }
    }

    /// The next line, without its end.
    fn line(&mut self) -> io::Result<String> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = unread.iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8_lossy(&unread[..at]).trim_end().to_owned();
                self.start += at + 1;
                return Ok(line);
            }
            self.fill()?;
        }
    }

    /// Takes `length` bytes of body from the buffer and then from the socket.
    fn take(&mut self, length: u64, sink: &mut Sink<'_>) -> io::Result<()> {
        let there = &self.buffer[self.start..self.end];
        let used = usize::try_from(length).map_or(there.len(), |it| it.min(there.len()));
        if let Sink::Keep(body) = sink {
            body.extend_from_slice(&there[..used]);
        }
        self.start += used;
        let mut left = length - used as u64;
        if left > 0 {
            (self.start, self.end) = (0, 0);
        }
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        while left > 0 {
            let gulp = usize::try_from(left).map_or(GULP, |left| left.min(GULP));
            let flags = match sink {
                Sink::Drop => drop_flags(),
                Sink::Keep(_) => RecvFlags::empty(),
            };
            let read = receive(stream, &mut self.buffer[..gulp], flags)?;
            if let Sink::Keep(body) = sink {
                body.extend_from_slice(&self.buffer[..read]);
            }
            left -= read as u64;
        }
        Ok(())
    }
}

/// On Linux this frees what a TCP socket holds without copying it anywhere; elsewhere it would
/// mean something else.
const fn drop_flags() -> RecvFlags {
    if cfg!(target_os = "linux") {
        RecvFlags::TRUNC
    } else {
        RecvFlags::empty()
    }
}

fn receive(stream: &TcpStream, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    loop {
        match recv(stream, &mut *buffer, flags) {
            Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, read)) => return Ok(read),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn parse_head(text: &str) -> anyhow::Result<(Answer, Framing, bool)> {
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let mut answer = Answer {
        status: match status.split(' ').nth(1).map(str::parse) {
            Some(Ok(code)) if status.starts_with("HTTP/1.1 ") => code,
            _ => bail!("`{status}` is no status line of HTTP/1.1"),
        },
        ..Answer::default()
    };
    let (mut framing, mut close) = (Framing::Close, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            framing = Framing::Length(value.parse().context("read `Content-Length`")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("location") {
            answer.location = Some(path_of(value).to_owned());
        }
    }
    Ok((answer, framing, close))
}

/// Path and query of a location, which may be absolute; it is on the same server either way.
fn path_of(location: &str) -> &str {
    match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => location,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// A server that answers one connection's requests with these bytes, one after the other.
    fn server(answers: Vec<Vec<u8>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            for answer in answers {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).expect("a request") > 0);
                stream.write_all(&answer).expect("an answer");
            }
        });
        address
    }

    #[test]
    fn bodies_of_every_framing_are_read_to_their_end() {
        let long = vec![b'x'; 3 * GULP];
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", long.len());
        let mut whole = std::mem::take(&mut answer).into_bytes();
        whole.extend_from_slice(&long);
        let chunked = [
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "5;a=b\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n",
        ];
        let address = server(vec![
            whole.clone(),
            chunked.concat().into_bytes(),
            b"HTTP/1.1 202 Accepted\r\nLocation: http://h:1/v2/u?a=b\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n".to_vec(),
            b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            whole,
            b"HTTP/1.1 200 OK\r\n\r\nto the end".to_vec(),
        ]);
        let mut connection = Connection::new(address, "h");
        let get = connection.head("GET", "/", "");
        let head = connection.head("HEAD", "/", "");
        let get = get.as_bytes();
        assert_eq!(
            connection.exchange(&[get]).expect("1").length,
            long.len() as u64
        );
        let (answer, body) = connection.exchange_kept(&[get]).expect("2");
        assert_eq!(answer.length, 21);
        assert_eq!(body, b"hello0123456789abcdef");
        let answer = connection.exchange(&[get]).expect("3");
        assert_eq!(
            (answer.status, answer.location.as_deref()),
            (202, Some("/v2/u?a=b"))
        );
        assert_eq!(
            connection.exchange(&[head.as_bytes()]).expect("4").length,
            0
        );
        assert_eq!(connection.exchange(&[get]).expect("5").status, 204);
        let (_, body) = connection.exchange_kept(&[get]).expect("6");
        assert!(body == long);
        assert_eq!(
            connection.exchange_kept(&[get]).expect("7").1,
            b"to the end"
        );
    }
}
