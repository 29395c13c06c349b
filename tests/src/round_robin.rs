//! A load balancer that is as unfriendly as one may be: it spreads requests, not connections, and sends each
//! request of an upload to another server than the one before. Called by [`crate::replicas`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, client, header, server};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// A running load balancer. It ends when dropped, and its connections with it.
#[derive(Debug)]
pub struct RoundRobin {
    address: SocketAddr,
    _runtime: Runtime,
}

/// Whose turn it is.
#[derive(Debug)]
struct Turns {
    servers: Vec<SocketAddr>,
    next: Mutex<Next>,
}

#[derive(Debug, Default)]
struct Next {
    /// For requests that belong to no upload.
    any: usize,
    /// For each upload, by its id. Forgotten with the load balancer.
    uploads: HashMap<String, usize>,
}

impl RoundRobin {
    /// Starts one in front of the servers, on a port of its own.
    ///
    /// # Errors
    /// When no port or no thread is to be had.
    pub fn start(servers: Vec<SocketAddr>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("start a runtime")?;
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .context("listen on loopback")?;
        let address = listener.local_addr()?;
        let turns = Arc::new(Turns {
            servers,
            next: Mutex::default(),
        });
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, turns.clone()));
            }
        });
        Ok(Self {
            address,
            _runtime: runtime,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn connection(stream: TcpStream, turns: Arc<Turns>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| forward(request, turns.clone()));
    // That a client went away, or a server did, ends the connection and is the client's to notice.
    let _ = server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Passes a request on and its answer back, both as they come.
async fn forward(request: Request<Incoming>, turns: Arc<Turns>) -> Result<Response<Incoming>> {
    let upload = upload_of(request.uri().path()).map(str::to_owned);
    let (stream, index) = turns.connect(upload.as_deref()).await?;
    let _ = stream.set_nodelay(true);
    let (mut sender, driver) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    let response = sender.send_request(request).await?;
    if upload.is_none()
        && let Some(location) = response.headers().get(header::LOCATION)
        && let Some(upload) = upload_of(location.to_str()?)
    {
        turns.began(upload, index);
    }
    Ok(response)
}

/// The id in the address of an upload.
fn upload_of(path: &str) -> Option<&str> {
    let (_, rest) = path.split_once("/blobs/uploads/")?;
    let id = rest.split(['?', '/']).next()?;
    (!id.is_empty()).then_some(id)
}

impl Turns {
    /// Connects to the server whose turn it is, or to the next one that is there.
    async fn connect(&self, upload: Option<&str>) -> Result<(TcpStream, usize)> {
        let first = self.take(upload);
        let count = self.servers.len();
        for index in (first..first + count).map(|index| index % count) {
            if let Ok(stream) = TcpStream::connect(self.servers[index]).await {
                return Ok((stream, index));
            }
        }
        anyhow::bail!("no server is there")
    }

    fn take(&self, upload: Option<&str>) -> usize {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = match upload {
            Some(upload) => next.uploads.entry(upload.to_owned()).or_default(),
            None => &mut next.any,
        };
        let index = *turn;
        *turn = (index + 1) % self.servers.len();
        index
    }

    fn began(&self, upload: &str, index: usize) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let second = (index + 1) % self.servers.len();
        next.uploads.insert(upload.to_owned(), second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_known_by_their_addresses() {
        assert_eq!(upload_of("/v2/a/b/blobs/uploads/x?digest=y"), Some("x"));
        assert_eq!(upload_of("/v2/a/b/blobs/uploads/"), None);
        assert_eq!(upload_of("/v2/a/blobs/sha256:0"), None);
    }

    #[test]
    fn every_request_of_an_upload_goes_elsewhere() {
        let address = "127.0.0.1:1".parse().expect("it is an address");
        let turns = Turns {
            servers: vec![address; 3],
            next: Mutex::default(),
        };
        assert_eq!(turns.take(None), 0);
        turns.began("x", 0);
        let seen: Vec<usize> = (0..4).map(|_| turns.take(Some("x"))).collect();
        assert_eq!(seen, [1, 2, 0, 1]);
        assert_eq!((turns.take(None), turns.take(None)), (1, 2));
    }
}
