//! The HTTP server: reads a request, asks the test for a reply, writes it, closes.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    /// As much as arrived, or as was taken.
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn query(&self, key: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs
            .find(|(found, _)| found == key)
            .map(|(_, value)| value.into_owned())
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// How much of the body is written before the connection is cut.
    pub(crate) cut: Option<usize>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, body: serde_json::Value) -> Self {
        self.header("Content-Type", "application/json")
            .body(body.to_string())
    }
}

/// Answers requests.
pub(crate) trait Behaviour: Send + Sync + 'static {
    /// How much of the request's body is read before the connection is cut; all by default.
    fn takes(&self, _head: &Request) -> Option<usize> {
        None
    }

    fn answer(&self, request: &Request) -> Reply;
}

impl<F: Fn(&Request) -> Reply + Send + Sync + 'static> Behaviour for F {
    fn answer(&self, request: &Request) -> Reply {
        self(request)
    }
}

/// A running server; what it was asked can be read.
pub(crate) struct Server {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server that answers the question who is there as a registry does, and leaves
    /// everything else to `behaviour`.
    pub(crate) fn start(behaviour: impl Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::<Mutex<Vec<Request>>>::default();
        let log = seen.clone();
        let behaviour = Arc::new(behaviour);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (behaviour, log) = (behaviour.clone(), log.clone());
                // A client may hang up at any time.
                std::thread::spawn(move || serve(stream, &*behaviour, &log).ok());
            }
        });
        Self { address, seen }
    }

    /// Returns the requests with this method, but for the question who is there.
    pub(crate) fn seen(&self, method: &str) -> Vec<Request> {
        let seen = self.seen.lock().unwrap();
        let wanted = |request: &&Request| request.method == method && request.target != "/v2/";
        seen.iter().filter(wanted).cloned().collect()
    }
}

fn serve(
    stream: TcpStream,
    behaviour: &dyn Behaviour,
    log: &Mutex<Vec<Request>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = read_head(&mut reader)?;
    let length = request.header("content-length");
    let length: usize = length.map_or(0, |text| text.parse().unwrap());
    let taken = behaviour
        .takes(&request)
        .map_or(length, |most| most.min(length));
    request.body = vec![0; taken];
    reader.read_exact(&mut request.body)?;
    log.lock().unwrap().push(request.clone());
    let reply = behaviour.answer(&request);
    if taken < length {
        // Dropped with bytes unread: the client sees a reset.
        return Ok(());
    }
    write_reply(stream, &request, &reply)
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Request> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut request = Request {
        method: words.next().ok_or(io::ErrorKind::UnexpectedEof)?,
        target: words.next().ok_or(io::ErrorKind::UnexpectedEof)?,
        ..Request::default()
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return Ok(request);
        };
        request.headers.push((name.to_owned(), value.to_owned()));
    }
}

fn write_reply(mut stream: TcpStream, request: &Request, reply: &Reply) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let has_length = reply
        .headers
        .iter()
        .any(|(name, _)| name == "Content-Length");
    if !has_length && reply.status != 204 && reply.status != 304 {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        let length = reply.body.len();
        stream.write_all(&reply.body[..reply.cut.unwrap_or(length).min(length)])?;
    }
    stream.flush()
}
