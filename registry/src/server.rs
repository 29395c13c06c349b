//! Connections: accepting them, HTTP/1.1 and HTTP/2 on one port, deadlines, and an end that
//! cuts nothing off. Called by `main` and by tests.

mod idle;
mod send_file;
mod tls;
mod transport;

use std::{io, net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use http::Version;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::{
    access_log::AccessLog,
    audit::AuditLog,
    auth::Gatekeeper,
    http::{Access, App, Peer, Scheme, Settings, service},
    jobs::{self, ControlSocket, Jobs, Totals, Upkeep},
    limits::Limiter,
    metrics::Metrics,
    store::{Store, causes},
};
use idle::IdleLimit;
use transport::Transport;

pub(crate) use send_file::FileSender;
pub use tls::{Tls, TlsError};

const KIB: usize = 1024;
/// How much of a connection's input and output is held at most: less for those that come when
/// many are open.
const BUFFER: usize = 128 * KIB;
const BUFFER_MIN: usize = 32 * KIB;
const BUFFERS: usize = 4 * 1024 * KIB;
/// As much of a body may be on its way before it is asked for: what a piece holds.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const STREAMS_MAX: u32 = 256;

/// How a server treats its connections.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// How TLS is spoken; not at all without it.
    pub tls: Option<Tls>,
    /// Who knows people and services; without one everybody may do everything.
    pub gatekeeper: Option<Arc<Gatekeeper>>,
    /// Whether requests may come in the clear beside TLS.
    pub plain: Plain,
    /// Longest life of a connection; requests on it are finished. Without one, connections
    /// live as long as they are used.
    pub deadline: Option<Duration>,
    /// Longest time without progress: between requests, and within bodies either way.
    pub idle: Duration,
    /// What is done beside serving, unless nothing may be changed.
    pub upkeep: Upkeep,
    /// Whether requests may change anything.
    pub mode: Mode,
    /// What requests are held to.
    pub limiter: Limiter,
    /// Connections at once; more wait to be accepted. Any number without one.
    pub connections: Option<NonZeroUsize>,
    /// Where each request leaves a line.
    pub access_log: AccessLog,
    /// Whether it is written down who did what.
    pub audit: Audit,
    /// Whether somebody collects traces, and wants to know more of each request.
    pub traced: bool,
    /// The directory that is served, where operators ask for upkeep.
    pub control: Option<PathBuf>,
}

/// From where requests may come in the clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plain {
    /// From this machine.
    #[default]
    Loopback,
    /// From anywhere: something in front of the server speaks TLS.
    Everywhere,
}

/// Whether requests may change anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They may.
    #[default]
    ReadWrite,
    /// They may not, and no upkeep is done either.
    ReadOnly,
}

/// Whether it is written down, beside the data, who did what. A server that may change nothing
/// writes nothing down either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audit {
    /// It is not.
    #[default]
    Off,
    /// It is.
    Kept,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            tls: None,
            gatekeeper: None,
            plain: Plain::default(),
            deadline: Some(Duration::from_secs(30 * 60)),
            idle: Duration::from_secs(60),
            upkeep: Upkeep::default(),
            mode: Mode::default(),
            limiter: Limiter::default(),
            connections: None,
            access_log: AccessLog::default(),
            audit: Audit::default(),
            traced: false,
            control: None,
        }
    }
}

/// Serves the store to everybody who connects, reading and writing, until `stop` returns. Then
/// takes no more connections and returns when all requests are finished.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    settings: ServerSettings,
    stop: impl Future<Output = ()>,
) {
    let (stopper, stopping) = watch::channel(false);
    let tasks = TaskTracker::new();
    let totals = Arc::new(Totals::default());
    let audit = match (settings.audit, settings.mode) {
        (Audit::Kept, Mode::ReadWrite) => AuditLog::new(store.clone()),
        (Audit::Off, _) | (_, Mode::ReadOnly) => AuditLog::off(),
    };
    let metrics = Arc::new(Metrics::new(&store, totals.clone(), audit.counts()));
    let jobs = Jobs::new(
        store.clone(),
        settings.upkeep.clone(),
        totals,
        audit.clone(),
        stopping.clone(),
    );
    let auditing = tokio::spawn(audit.clone().run(stopping.clone()));
    let upkeep = match settings.mode {
        Mode::ReadOnly => None,
        Mode::ReadWrite => {
            if let Some(directory) = &settings.control {
                match ControlSocket::open(directory) {
                    Ok(socket) => {
                        tasks.spawn(socket.serve(jobs.clone(), stopping.clone()));
                    }
                    Err(error) => tracing::warn!(%error, "operators cannot ask for upkeep"),
                }
            }
            Some(tokio::spawn(jobs::run(jobs)))
        }
    };
    let app = App::new(
        store.clone(),
        metrics.clone(),
        Settings {
            access: {
                let read_only = settings.mode == Mode::ReadOnly;
                match &settings.gatekeeper {
                    Some(gatekeeper) => Access::guarded(gatekeeper.clone(), read_only),
                    None => Access::open(read_only),
                }
            },
            idle: settings.idle,
            limiter: settings.limiter.clone(),
            access_log: settings.access_log.clone(),
            audit: audit.clone(),
            traced: settings.traced,
        },
        stopping.clone(),
        tasks.clone(),
    );
    let router = service(app);
    let places = settings.connections.map_or(Semaphore::MAX_PERMITS, |most| {
        most.get().min(Semaphore::MAX_PERMITS)
    });
    let places = Arc::new(Semaphore::new(places));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let served = connection(
                    stream,
                    peer,
                    router.clone(),
                    settings.clone(),
                    (BUFFERS / (tasks.len() + 1)).clamp(BUFFER_MIN, BUFFER),
                    stopping.clone(),
                );
                let metrics = metrics.clone();
                tasks.spawn(async move {
                    let _counted = (metrics.requests().connection(), place);
                    served.await;
                });
            }
            Err(error) => refused(&error).await,
        }
    }
    drop(listener);
    tracing::info!("stopping: finishing requests");
    stopper.send_replace(true);
    tasks.close();
    tasks.wait().await;
    if let Some(upkeep) = upkeep
        && let Err(error) = upkeep.await
    {
        tracing::error!(%error, "upkeep failed");
    }
    if let Err(error) = auditing.await {
        tracing::error!(%error, "writing the audit log failed");
    }
    audit.close().await;
    settings.access_log.flush();
    if let Err(error) = store.settle().await {
        tracing::error!(
            cause = causes(&error),
            "cannot bring everything to its place"
        );
    }
    tracing::info!("stopped");
}

/// Takes the next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place.expect("it is never closed")))
}

/// Returns once the server wants to stop, or is gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Out of file descriptors, most likely: those come back with time, and trying at once again
/// would take all of it.
async fn refused(error: &io::Error) {
    const PAUSE: Duration = Duration::from_millis(100);
    if error.kind() != io::ErrorKind::ConnectionAborted {
        tracing::warn!(%error, "cannot accept a connection");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    settings: ServerSettings,
    buffer: usize,
    mut stopping: watch::Receiver<bool>,
) {
    // Answers are written in one go; waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let may_be_plain = match settings.plain {
        Plain::Loopback => peer.ip().to_canonical().is_loopback(),
        Plain::Everywhere => true,
    };
    let tls = settings.tls.as_ref().map(Tls::acceptor);
    let opening = timeout(settings.idle, Transport::open(stream, tls, may_be_plain));
    let opened = tokio::select! {
        opened = opening => opened.unwrap_or_else(|elapsed| Err(elapsed.into())),
        () = stopped(&mut stopping) => return,
    };
    let stream = match opened {
        Ok(Some(stream)) => stream,
        Ok(None) => return,
        Err(error) => {
            tracing::debug!(%peer, %error, "connection did not begin");
            return;
        }
    };
    let sender = FileSender::default();
    let is_plain = stream.plain().is_some();
    let scheme = match is_plain {
        true => Scheme::Http,
        false => Scheme::Https,
    };
    let stream = IdleLimit::new(stream, settings.idle, sender.clone());
    let service =
        TowerToHyperService::new(router.map_request(move |request: Request<Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(Peer(peer));
            request.extensions_mut().insert(scheme);
            // HTTP/2 has frames of its own around every piece, and TLS records.
            if is_plain && request.version() <= Version::HTTP_11 {
                request.extensions_mut().insert(sender.clone());
            }
            request
        }));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.idle)
        .max_buf_size(buffer);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.idle)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(buffer);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let deadline = async {
        match settings.deadline {
            Some(deadline) => tokio::time::sleep(deadline).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = deadline => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection broke off");
    }
}
