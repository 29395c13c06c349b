//! An HTTP proxy between a registry and its object store that lets requests go wrong: some of
//! all, by chance, or the next one of a kind. Requests pass as they are, `Host` included, so
//! that their signatures hold. Knows of multipart uploads as S3 has them.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use deploy_registry::Store;
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::backends::{Place, place_on_azurite, place_on_minio};

/// After this, an impatient client gives up: sooner than what hangs goes on.
const READ_TIMEOUT: &str = "1s";
const SLOW: Duration = Duration::from_millis(100);
/// Longer than clients wait.
const HANGING: Duration = Duration::from_millis(2500);
const LATE: Duration = Duration::from_millis(1500);
/// Half of an answer has left by then.
const TEARING: Duration = Duration::from_millis(20);

/// A way in which a request goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused with 503.
    Refused,
    /// It is done, and said to have failed, with 500.
    Denied,
    /// It is done; instead of an answer the connection ends.
    Lost,
    /// It is done; instead of an answer the connection is reset.
    Reset,
    /// Nothing happens until the client has given up.
    HungBefore,
    /// It is done, but not answered until the client has given up.
    HungAfter,
    /// It is done when the client has given up.
    Late,
    /// It takes its time.
    Slow,
    /// It is done; the connection ends in the middle of the answer's body.
    Torn,
}

const FAULTS: [Fault; 9] = [
    Fault::Refused,
    Fault::Denied,
    Fault::Lost,
    Fault::Reset,
    Fault::HungBefore,
    Fault::HungAfter,
    Fault::Late,
    Fault::Slow,
    Fault::Torn,
];

/// The proxy. It listens on a port of its own until its last clone is dropped.
#[derive(Clone)]
pub(crate) struct FaultyProxy {
    inner: Arc<Inner>,
    address: SocketAddr,
    _accepting: Arc<AbortOnDropHandle<()>>,
}

struct Inner {
    target: SocketAddr,
    client: reqwest::Client,
    state: AtomicU64,
    percent: AtomicU64,
    struck: [AtomicU64; FAULTS.len()],
    strikes: Mutex<Vec<Strike>>,
    /// Multipart uploads that are neither completed nor aborted, and whether anybody has shown
    /// to know of them.
    uploads: Mutex<HashMap<String, bool>>,
    /// Requests that go on whatever becomes of their connections.
    passing: TaskTracker,
}

/// A fault that is still to come.
#[derive(Clone)]
pub(crate) struct Strike(Arc<Struck>);

struct Struck {
    method: Method,
    part: &'static str,
    fault: Fault,
    arrived: Notify,
    done: Notify,
    released: Notify,
}

impl Strike {
    /// Returns once the request has come.
    pub(crate) async fn arrived(&self) {
        self.0.arrived.notified().await;
    }

    /// Returns once it is done, where the fault has it done.
    pub(crate) async fn struck(&self) {
        self.0.done.notified().await;
    }

    /// Lets the connection of the request go on. Until then it is held where it is.
    pub(crate) fn release(&self) {
        self.0.released.notify_one();
    }
}

/// A place on a server, and a proxy before it.
pub(crate) struct Behind {
    pub(crate) place: Place,
    pub(crate) proxy: FaultyProxy,
}

impl Behind {
    /// On an S3 server; nothing where there is none.
    pub(crate) async fn on_minio(test: &str) -> Option<Self> {
        Some(Self::start(place_on_minio(test)?).await)
    }

    /// On an emulator of Azure's blob storage; nothing where there is none.
    pub(crate) async fn on_azurite(test: &str) -> Option<Self> {
        Some(Self::start(place_on_azurite(test)?).await)
    }

    async fn start(place: Place) -> Self {
        let proxy = FaultyProxy::start(place.address(), 0x5eed).await;
        Self { place, proxy }
    }

    /// Returns a store that asks through the proxy.
    pub(crate) async fn store(&self) -> Store {
        self.place.store_through(&self.proxy.url(), None).await
    }

    /// Returns a store that asks through the proxy, and does not wait for what hangs.
    pub(crate) async fn impatient_store(&self) -> Store {
        let patience = Some(READ_TIMEOUT);
        self.place.store_through(&self.proxy.url(), patience).await
    }
}

/// An answer of the target, whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl FaultyProxy {
    /// Starts one that is sound until told otherwise.
    pub(crate) async fn start(target: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        let inner = Arc::new(Inner {
            target,
            client: client.build().unwrap(),
            state: AtomicU64::new(seed),
            percent: AtomicU64::new(0),
            struck: std::array::from_fn(|_| AtomicU64::new(0)),
            strikes: Mutex::default(),
            uploads: Mutex::default(),
            passing: TaskTracker::new(),
        });
        let accepting = {
            let inner = inner.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(connection(inner.clone(), stream));
                }
            })
        };
        Self {
            inner,
            address,
            _accepting: Arc::new(AbortOnDropHandle::new(accepting)),
        }
    }

    /// Returns where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets so many requests of a hundred go wrong from now on.
    pub(crate) fn set_percent(&self, percent: u64) {
        self.inner.percent.store(percent, Ordering::SeqCst);
    }

    /// Lets the next request go wrong that has this method, and this in its target.
    pub(crate) fn strike(&self, method: Method, part: &'static str, fault: Fault) -> Strike {
        let strike = self.hold(method, part, fault);
        strike.release();
        strike
    }

    /// As [`FaultyProxy::strike`], but the connection is held until the strike is released.
    pub(crate) fn hold(&self, method: Method, part: &'static str, fault: Fault) -> Strike {
        let strike = Strike(Arc::new(Struck {
            method,
            part,
            fault,
            arrived: Notify::new(),
            done: Notify::new(),
            released: Notify::new(),
        }));
        self.inner.strikes.lock().unwrap().push(strike.clone());
        strike
    }

    /// Returns whether a fault that was asked for is still to come.
    pub(crate) fn has_strikes(&self) -> bool {
        !self.inner.strikes.lock().unwrap().is_empty()
    }

    /// Returns how often each fault struck by chance.
    pub(crate) fn struck(&self) -> Vec<u64> {
        let struck = self.inner.struck.iter();
        struck.map(|count| count.load(Ordering::SeqCst)).collect()
    }

    /// Returns how many multipart uploads are neither completed nor aborted: those that somebody
    /// has shown to know of, and those of which nobody was told.
    pub(crate) fn open_multipart_uploads(&self) -> (usize, usize) {
        let uploads = self.inner.uploads.lock().unwrap();
        let known = uploads.values().filter(|known| **known).count();
        (known, uploads.len() - known)
    }

    /// Returns once nothing is on its way any more.
    pub(crate) async fn settled(&self) {
        self.inner.passing.close();
        self.inner.passing.wait().await;
        self.inner.passing.reopen();
    }
}

async fn connection(inner: Arc<Inner>, stream: TcpStream) {
    // Another name of the socket, to have it reset when both are closed.
    let Ok(stream) = stream.into_std() else {
        return;
    };
    let (Ok(socket), Ok(stream)) = (
        stream.try_clone().and_then(TcpStream::from_std),
        TcpStream::from_std(stream),
    ) else {
        return;
    };
    let service = service_fn(|request| inner.answer(&socket, request));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Inner {
    /// A number that the next call does not repeat (splitmix64).
    fn random(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.state.fetch_add(step, Ordering::SeqCst);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn draw(&self) -> Option<Fault> {
        if self.random() % 100 >= self.percent.load(Ordering::SeqCst) {
            return None;
        }
        let place = usize::try_from(self.random() % FAULTS.len() as u64).unwrap();
        self.struck[place].fetch_add(1, Ordering::SeqCst);
        Some(FAULTS[place])
    }

    fn strike(&self, head: &request::Parts) -> Option<Strike> {
        let target = head.uri.to_string();
        let mut strikes = self.strikes.lock().unwrap();
        let place = strikes.iter().position(|Strike(strike)| {
            strike.method == head.method && target.contains(strike.part)
        })?;
        Some(strikes.remove(place))
    }

    async fn answer(
        self: &Arc<Self>,
        socket: &TcpStream,
        request: Request<Incoming>,
    ) -> io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = to_bytes(Body::new(body), usize::MAX).await;
        let body = body.map_err(io::Error::other)?;
        self.is_known(&head);
        let strike = self.strike(&head);
        let fault = match &strike {
            Some(Strike(strike)) => {
                strike.arrived.notify_one();
                Some(strike.fault)
            }
            None => self.draw(),
        };
        let is_head = head.method == Method::HEAD;
        // Whoever gave up closes the connection, and this would end with it.
        let passed = |delay: Duration| {
            let this = self.clone();
            self.passing.spawn(async move {
                tokio::time::sleep(delay).await;
                let answer = this.pass(head, body).await;
                if let Some(Strike(strike)) = strike {
                    strike.done.notify_one();
                    strike.released.notified().await;
                }
                answer
            })
        };
        let answer = match fault {
            Some(Fault::Refused) => {
                return Ok(failure(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"));
            }
            Some(Fault::HungBefore) => {
                tokio::time::sleep(HANGING).await;
                return Err(broken());
            }
            Some(Fault::Late) => {
                passed(LATE);
                tokio::time::sleep(HANGING).await;
                return Err(broken());
            }
            Some(Fault::Slow) => passed(SLOW).await,
            _ => passed(Duration::ZERO).await,
        };
        let answer = answer
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        match fault {
            Some(Fault::Denied) => Ok(failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
            Some(Fault::Reset) => {
                socket.set_zero_linger()?;
                Err(broken())
            }
            Some(Fault::HungAfter) => {
                tokio::time::sleep(HANGING).await;
                Err(broken())
            }
            Some(Fault::Torn) if !answer.body.is_empty() => Ok(answer.torn()),
            Some(Fault::Lost | Fault::Torn) => Err(broken()),
            _ => Ok(answer.whole(is_head)),
        }
    }

    /// Passes a request on, and writes down what it does to multipart uploads.
    async fn pass(&self, head: request::Parts, body: Bytes) -> reqwest::Result<Answer> {
        let mut headers = head.headers.clone();
        headers.remove(header::CONNECTION);
        headers.remove(header::TRANSFER_ENCODING);
        let response = self
            .client
            .request(
                head.method.clone(),
                format!("http://{}{}", self.target, head.uri),
            )
            .headers(headers)
            .body(body)
            .send()
            .await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await?;
        let answer = Answer {
            status,
            headers,
            body,
        };
        self.note(&head, &answer);
        Ok(answer)
    }

    /// Whoever names a multipart upload knows of it.
    fn is_known(&self, head: &request::Parts) {
        if let Some(id) = parameter(head, "uploadId")
            && let Some(known) = self.uploads.lock().unwrap().get_mut(&id)
        {
            *known = true;
        }
    }

    fn note(&self, head: &request::Parts, answer: &Answer) {
        let mut uploads = self.uploads.lock().unwrap();
        let done = answer.status.is_success() && !answer.text().contains("<Error>");
        let ends = [Method::POST, Method::DELETE].contains(&head.method);
        match parameter(head, "uploadId") {
            Some(id) if ends && (done || answer.status == StatusCode::NOT_FOUND) => {
                uploads.remove(&id);
            }
            Some(_) => {}
            None if done && parameter(head, "uploads").is_some() => {
                let text = answer.text();
                let (_, rest) = text.split_once("<UploadId>").unwrap();
                let (id, _) = rest.split_once('<').unwrap();
                uploads.insert(id.to_owned(), false);
            }
            None => {}
        }
    }
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn response(&self, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        let headers = response.headers_mut();
        headers.remove(header::CONNECTION);
        headers.remove(header::TRANSFER_ENCODING);
        response
    }

    fn whole(&self, is_head: bool) -> Response<Body> {
        let mut response = self.response(Body::from(self.body.clone()));
        if !is_head {
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        response
    }

    fn torn(&self) -> Response<Body> {
        let half = self.body.slice(..self.body.len() / 2);
        let broken = futures::stream::once(async {
            tokio::time::sleep(TEARING).await;
            Err(broken())
        });
        let body = futures::stream::iter([Ok(half)]).chain(broken);
        let mut response = self.response(Body::from_stream(body));
        let length = HeaderValue::from(self.body.len());
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        response
    }
}

fn broken() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// What S3 says when it fails.
fn failure(status: StatusCode, code: &str) -> Response<Body> {
    let document = format!("<Error><Code>{code}</Code><Message>by chance</Message></Error>");
    let mut response = Response::new(Body::from(document));
    *response.status_mut() = status;
    response
}

fn parameter(head: &request::Parts, name: &str) -> Option<String> {
    let query = head.uri.query().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
