//! Our registry behind a door that misbehaves as told: it refuses, stalls, lies about sizes, sends other bytes.
//! For the scenarios beside it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use deploy_tests::http::{self, Reply};

/// What is wrong with the answers to some requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status, with `Retry-After` where there is one.
    Status(u16, Option<String>),
    /// The first half of the body, and then nothing, for as long as the other side waits.
    Stall,
    /// The first half of the body, and the end of the connection.
    Break,
    /// More bytes than the blob has, and a head that agrees with them.
    Longer,
    /// Fewer bytes than the blob has, and a head that agrees with them.
    Shorter,
    /// As many bytes as the blob has, and one of them another.
    OtherBytes,
    /// The page of somebody who wants people to log in.
    Html,
}

/// Which requests a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Those for manifests.
    Manifests,
    /// Those for blobs that are no documents.
    Layers,
}

impl Door {
    fn leads_to(self, target: &str, body: &[u8]) -> bool {
        match self {
            Self::Manifests => target.contains("/manifests/"),
            Self::Layers => target.contains("/blobs/") && !body.starts_with(b"{"),
        }
    }
}

/// The door. It is open to whoever reads; whoever writes goes to the registry itself.
#[derive(Debug)]
pub(crate) struct Faulty {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    registry: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fault: Option<(Door, Fault)>,
    /// When a faulty answer went out, and to what.
    faults: Vec<(Instant, String)>,
    /// How long it took until the same was asked for again.
    pauses: Vec<Duration>,
}

impl Faulty {
    /// Opens a door to the registry at an address, on a port of its own.
    ///
    /// # Panics
    /// When no port is free.
    pub(crate) fn before(registry: impl Into<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has one");
        let shared = Arc::new(Shared {
            registry: registry.into(),
            state: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        // It ends with the test's process; nobody else has its port.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                // That the other side goes away is what it is tested for.
                thread::spawn(move || shared.serve(stream).ok());
            }
        });
        Self { address, shared }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Has answers go wrong from now on, and forgets what was counted.
    pub(crate) fn misbehave(&self, door: Door, fault: Fault) {
        *self.shared.state() = State {
            fault: Some((door, fault)),
            ..State::default()
        };
    }

    /// Has them be right again.
    pub(crate) fn heal(&self) {
        self.shared.state().fault = None;
    }

    /// How many answers went wrong.
    pub(crate) fn faults(&self) -> usize {
        self.shared.state().faults.len()
    }

    /// How long it took, after each wrong answer, until the same was asked for again.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.shared.state().pauses.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request.
    fn serve(&self, stream: TcpStream) -> Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let method = words.next().context("a method")?.to_owned();
        let target = words.next().context("a target")?.to_owned();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut stream = reader.into_inner();
        self.arrived(&target);
        let passed = headers.iter().map(|(name, value)| (&**name, &**value));
        let passed = passed.filter(|(name, _)| {
            let own = ["host", "connection", "content-length"];
            !own.iter().any(|own| name.eq_ignore_ascii_case(own))
        });
        let passed: Vec<_> = passed.collect();
        let reply = http::request(&self.registry, &method, &target, &passed, b"")?;
        match self.fault_of(&target, &reply.body) {
            Some(fault) => send_wrong(&mut stream, &method, reply, &fault),
            None => send(&mut stream, &method, &reply, reply.body.len(), &reply.body),
        }
    }

    fn arrived(&self, target: &str) {
        let mut state = self.state();
        if let Some((last, asked)) = state.faults.last()
            && asked == target
            && state.pauses.len() < state.faults.len()
        {
            let pause = last.elapsed();
            state.pauses.push(pause);
        }
    }

    /// The fault that an answer has; asked when it is about to go out.
    fn fault_of(&self, target: &str, body: &[u8]) -> Option<Fault> {
        let mut state = self.state();
        let (door, fault) = state.fault.clone()?;
        if !door.leads_to(target, body) {
            return None;
        }
        state.faults.push((Instant::now(), target.to_owned()));
        Some(fault)
    }
}

fn send_wrong(stream: &mut TcpStream, method: &str, reply: Reply, fault: &Fault) -> Result<()> {
    let Reply { mut body, .. } = reply.clone();
    let whole = body.len();
    // What is asked for again does not come either.
    let half = if reply.status == 206 { 0 } else { whole / 2 };
    match fault {
        Fault::Status(status, retry_after) => {
            let retry_after = retry_after.iter();
            let retry_after = retry_after.map(|value| format!("Retry-After: {value}\r\n"));
            let retry_after: String = retry_after.collect();
            let head = format!(
                "HTTP/1.1 {status} No\r\n{retry_after}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
            Ok(stream.write_all(head.as_bytes())?)
        }
        Fault::Stall => {
            send(stream, method, &reply, whole, &body[..half])?;
            // Until the other side has had enough.
            std::io::copy(stream, &mut std::io::sink())?;
            Ok(())
        }
        Fault::Break => send(stream, method, &reply, whole, &body[..half]),
        Fault::Longer => {
            body.extend_from_slice(b"and more");
            send(stream, method, &reply, body.len(), &body)
        }
        Fault::Shorter => {
            body.truncate(whole / 2);
            send(stream, method, &reply, body.len(), &body)
        }
        Fault::OtherBytes => {
            if let Some(byte) = body.last_mut() {
                *byte ^= 1;
            }
            send(stream, method, &reply, whole, &body)
        }
        Fault::Html => {
            let page = "<html>who are you?</html>";
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
                page.len()
            );
            Ok(stream.write_all(head.as_bytes())?)
        }
    }
}

/// Sends an answer that says it has `length` bytes, and these.
fn send(
    stream: &mut TcpStream,
    method: &str,
    reply: &Reply,
    length: usize,
    body: &[u8],
) -> Result<()> {
    let mut head = format!("HTTP/1.1 {} Told\r\nConnection: close\r\n", reply.status);
    for (name, value) in reply.headers() {
        let own = ["content-length", "connection", "transfer-encoding"];
        if !own.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if reply.status != 304 {
        let length = match method {
            "HEAD" => reply.header("content-length").unwrap_or("0").to_owned(),
            _ => length.to_string(),
        };
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    Ok(stream.write_all(body)?)
}
