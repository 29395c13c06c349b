//! Single HTTP/1.1 requests, byte for byte as wanted, each on a connection of its own. Called by scenarios
//! that need a request which no client would send, or one that stops half-way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// How long a read or write may stand still.
const STALL: Duration = Duration::from_secs(60);

/// A status, headers and a whole body.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All headers, in their order.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The body as text, invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in `{}`", self.text()))
    }

    /// The code of the first error in an OCI error envelope.
    pub fn error_code(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        Some(body["errors"][0]["code"].as_str()?.to_owned())
    }
}

/// Sends one request and reads the whole reply. `target` is the path with its query, or an absolute
/// `http://` address, whose host is not looked at.
///
/// # Errors
/// When the connection fails, stands still, or ends before the reply does.
pub fn request(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Reply> {
    let mut stream = begin(address, method, target, headers, body.len() as u64)?;
    stream.write_all(body).context("send the body")?;
    finish(stream, method)
}

/// GET, as [`request`].
///
/// # Errors
/// As [`request`].
pub fn get(address: &str, target: &str) -> Result<Reply> {
    request(address, "GET", target, &[], b"")
}

/// Sends the head of a request that promises `length` bytes of body, and leaves the body to the caller.
///
/// # Errors
/// When the connection fails.
pub fn begin(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    length: u64,
) -> Result<TcpStream> {
    let target = path_of(target);
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("connect to `{address}`"))?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    let mut head =
        format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if length > 0 || !matches!(method, "GET" | "HEAD") {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    head.push_str("\r\n");
    stream
        .write_all(head.as_bytes())
        .context("send the request")?;
    Ok(stream)
}

/// Reads the whole reply to a request whose body has been sent.
///
/// # Errors
/// When the connection ends before the reply does, or it is not HTTP.
pub fn finish(mut stream: TcpStream, method: &str) -> Result<Reply> {
    let mut bytes = Vec::new();
    // A server may close the connection hard after it refused a body; what it said before that counts.
    let read = stream.read_to_end(&mut bytes);
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        read.context("read the reply")?;
        bail!("the connection was closed before the reply was whole");
    };
    let head = std::str::from_utf8(&bytes[..end]).context("read the reply's head")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut reply = Reply {
        status: status.context("the reply has no status")?,
        headers,
        body: bytes[end + 4..].to_vec(),
    };
    if reply
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        reply.body = unchunk(&reply.body).context("a chunked body ended early")?;
    } else if let Some(length) = reply
        .header("content-length")
        .filter(|_| method != "HEAD" && reply.status != 304)
    {
        let length: usize = length.parse().context("read the reply's length")?;
        if reply.body.len() != length {
            bail!("the body has {} of {length} bytes", reply.body.len());
        }
    }
    Ok(reply)
}

fn path_of(target: &str) -> &str {
    match target.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/').unwrap_or(rest.len())..],
        None => target,
    }
}

fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..line])
            .ok()?
            .split(';')
            .next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(line + 2..line + 2 + size)?);
        bytes = bytes.get(line + 2 + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        assert_eq!(
            unchunk(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").unwrap(),
            b"abcde"
        );
        assert_eq!(unchunk(b"3\r\nab"), None);
    }

    #[test]
    fn host_of_an_absolute_target_is_dropped() {
        assert_eq!(path_of("http://localhost:1/v2/?a=b"), "/v2/?a=b");
        assert_eq!(path_of("/v2/"), "/v2/");
    }
}
