//! A proxy in front of a storage server that answers with errors, too late, half, or not at all, now and then.
//! Called by the scenario that shows what the registry makes of such a server.
//!
//! It speaks plain HTTP/1.1, reads each request and each answer whole, and draws from a seeded generator what
//! becomes of them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is passed on, and so is its answer.
    Passed,
    /// It is refused with 503, and not passed on.
    Refused,
    /// It is passed on; its answer is lost, and an error comes in its place.
    Lost,
    /// The connection is torn before it is passed on.
    TornBefore,
    /// It is passed on, and the connection is torn before its answer.
    TornAfter,
    /// It is passed on, and the connection is torn within its answer.
    TornWithin,
    /// Its answer comes late.
    Slow,
    /// Its answer never comes; in the end, the connection closes.
    Hanging,
}

const FAULTS: [Fate; 7] = [
    Fate::Refused,
    Fate::Lost,
    Fate::TornBefore,
    Fate::TornAfter,
    Fate::TornWithin,
    Fate::Slow,
    Fate::Hanging,
];

/// A running proxy. Dropping it stops it.
#[derive(Debug)]
pub struct FaultyProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    /// How many requests of a hundred go wrong.
    percent: AtomicU32,
    generator: Mutex<StdRng>,
    slow: Duration,
    hanging: Duration,
    faults: [AtomicU64; FAULTS.len()],
    passed: AtomicU64,
    stopped: AtomicBool,
}

impl FaultyProxy {
    /// Starts a proxy in front of `server`, which is an address of this machine. It is sound until told otherwise.
    ///
    /// # Errors
    /// When no port is to be had.
    pub fn start(
        server: SocketAddr,
        seed: u64,
        slow: Duration,
        hanging: Duration,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            percent: AtomicU32::new(0),
            generator: Mutex::new(StdRng::seed_from_u64(seed)),
            slow,
            hanging,
            faults: std::array::from_fn(|_| AtomicU64::new(0)),
            passed: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        let acceptor = std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = accepting.clone();
                if let Ok(client) = client {
                    // What breaks here is what the clients are meant to live with.
                    std::thread::spawn(move || shared.serve(client).ok());
                }
            }
        });
        Ok(Self {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Lets so many requests of a hundred go wrong from now on.
    pub fn set_percent(&self, percent: u32) {
        self.shared.percent.store(percent, Ordering::SeqCst);
    }

    /// How many requests went through, and how many went wrong, by kind.
    pub fn tally(&self) -> (u64, Vec<(String, u64)>) {
        let kinds = FAULTS.iter().zip(&self.shared.faults);
        let faults = kinds.map(|(fate, count)| (format!("{fate:?}"), count.load(Ordering::SeqCst)));
        (self.shared.passed.load(Ordering::SeqCst), faults.collect())
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The one that it is waiting for.
        drop(TcpStream::connect(self.address));
        self.acceptor.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn draw(&self) -> Fate {
        let mut generator = self
            .generator
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let unlucky = generator.random_range(0..100) < self.percent.load(Ordering::SeqCst);
        if !unlucky {
            self.passed.fetch_add(1, Ordering::SeqCst);
            return Fate::Passed;
        }
        let kind = generator.random_range(0..FAULTS.len());
        self.faults[kind].fetch_add(1, Ordering::SeqCst);
        FAULTS[kind]
    }

    /// Serves one connection until either side closes it or fate does.
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let mut answers = client.try_clone()?;
        let mut requests = BufReader::new(client);
        let server = TcpStream::connect(self.server)?;
        server.set_nodelay(true)?;
        answers.set_nodelay(true)?;
        let mut passing = server.try_clone()?;
        let mut server = BufReader::new(server);
        while let Some(request) = Message::read(&mut requests, Bodies::Announced)? {
            let fate = self.draw();
            match fate {
                Fate::TornBefore => return Ok(()),
                Fate::Refused => {
                    answers.write_all(&refusal("503 Slow Down", "SlowDown"))?;
                    continue;
                }
                _ => {}
            }
            passing.write_all(&request.bytes)?;
            let bodies = match request.is_head() {
                true => Bodies::None,
                false => Bodies::Announced,
            };
            let Some(answer) = Message::read_answer(&mut server, bodies)? else {
                return Ok(());
            };
            match fate {
                Fate::TornAfter => return Ok(()),
                Fate::TornWithin => {
                    let half = answer.bytes.len() / 2;
                    return answers.write_all(&answer.bytes[..half]);
                }
                Fate::Hanging => {
                    std::thread::sleep(self.hanging);
                    return Ok(());
                }
                Fate::Lost => {
                    answers.write_all(&refusal("500 Internal Server Error", "InternalError"))?;
                    continue;
                }
                Fate::Slow => std::thread::sleep(self.slow),
                Fate::Passed | Fate::Refused | Fate::TornBefore => {}
            }
            answers.write_all(&answer.bytes)?;
        }
        Ok(())
    }
}

fn refusal(status: &str, code: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as bad luck would have it</Message></Error>"
    );
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Whether a message may have a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bodies {
    None,
    Announced,
}

/// A request or an answer, as it came.
#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    line: String,
}

impl Message {
    fn is_head(&self) -> bool {
        self.line.starts_with("HEAD ")
    }

    /// Reads an answer, passing over those that only say that another one will come.
    fn read_answer(from: &mut impl BufRead, bodies: Bodies) -> io::Result<Option<Self>> {
        loop {
            let answer = Self::read(from, bodies)?;
            match answer {
                Some(answer) if answer.line.contains(" 100 ") => {}
                answer => return Ok(answer),
            }
        }
    }

    /// Reads a message whole; nothing where the connection ends before it begins.
    fn read(from: &mut impl BufRead, bodies: Bodies) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let mut line = String::new();
        let (mut length, mut chunked) = (0, false);
        loop {
            let start = bytes.len();
            if from.read_until(b'\n', &mut bytes)? == 0 {
                return match bytes.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            let text = String::from_utf8_lossy(&bytes[start..]).trim().to_owned();
            if start == 0 {
                line = text;
                continue;
            }
            if text.is_empty() {
                break;
            }
            let lower = text.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
        }
        let without = [" 204 ", " 304 ", " 100 "]
            .iter()
            .any(|status| line.starts_with("HTTP/") && format!("{line} ").contains(status));
        if bodies == Bodies::Announced && !without {
            match chunked {
                true => read_chunks(from, &mut bytes)?,
                false => {
                    let start = bytes.len();
                    bytes.resize(start + length, 0);
                    from.read_exact(&mut bytes[start..])?;
                }
            }
        }
        Ok(Some(Self { bytes, line }))
    }
}

/// Reads a chunked body as it is, its end included.
fn read_chunks(from: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let start = bytes.len();
        from.read_until(b'\n', bytes)?;
        let size = String::from_utf8_lossy(&bytes[start..]).trim().to_owned();
        let size = size.split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        if size == 0 {
            break;
        }
        // With the end of its line.
        if from.by_ref().take(size + 2).read_to_end(bytes)? as u64 != size + 2 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    // What may follow the last chunk, up to an empty line.
    loop {
        let start = bytes.len();
        if from.read_until(b'\n', bytes)? == 0 || bytes[start..].trim_ascii().is_empty() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    /// Answers every request on every connection with the same bytes.
    fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                std::thread::spawn(move || {
                    let mut writing = client.try_clone().unwrap();
                    let mut reading = BufReader::new(client);
                    while let Ok(Some(_)) = Message::read(&mut reading, Bodies::Announced) {
                        writing.write_all(answer).unwrap();
                    }
                });
            }
        });
        address
    }

    #[test]
    fn a_sound_proxy_passes_everything_on() {
        let chunked: &[u8] =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        let proxy = FaultyProxy::start(server(chunked), 1, Duration::ZERO, Duration::ZERO).unwrap();
        let reply = Message::read(
            &mut BufReader::new({
                let mut stream = TcpStream::connect(proxy.address()).unwrap();
                stream
                    .write_all(b"PUT /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
                    .unwrap();
                stream
            }),
            Bodies::Announced,
        );
        assert_eq!(reply.unwrap().unwrap().bytes, chunked);
        assert_eq!(proxy.tally().0, 1);
    }

    #[test]
    fn bad_luck_strikes_as_often_as_told_and_in_every_way() {
        let whole: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
        let proxy = FaultyProxy::start(server(whole), 2, Duration::ZERO, Duration::ZERO).unwrap();
        proxy.set_percent(100);
        let (mut refused, mut torn) = (0, 0);
        for _ in 0..100 {
            match http::get(&proxy.address(), "/") {
                Ok(reply) if reply.status == 503 || reply.status == 500 => refused += 1,
                Ok(_) => {}
                Err(_) => torn += 1,
            }
        }
        assert!(refused > 0 && torn > 0);
        let (passed, faults) = proxy.tally();
        assert_eq!(passed, 0);
        assert!(faults.iter().all(|(_, count)| *count > 0), "{faults:?}");
        proxy.set_percent(0);
        assert_eq!(http::get(&proxy.address(), "/").unwrap().status, 200);
    }
}
