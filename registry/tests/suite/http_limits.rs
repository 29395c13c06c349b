//! What the registry refuses when somebody asks too much, or asks it to change.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::{Duration, Instant},
};

use deploy_registry::{Limiter, Limits, Mode, Rate, ServerSettings, Store};
use deploy_spec::Digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{MANIFEST, TestRegistry, assert_error, header, image, name};

async fn limited(limits: Limits) -> (TestRegistry, Limiter) {
    let limiter = Limiter::new(limits);
    let settings = ServerSettings {
        limiter: limiter.clone(),
        ..ServerSettings::default()
    };
    (TestRegistry::with(Store::memory(), settings).await, limiter)
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let rate = Rate {
        per_second: NonZeroU32::MIN,
        burst: NonZeroU32::new(3).unwrap(),
    };
    let (registry, limiter) = limited(Limits {
        rate: Some(rate),
        ..Limits::default()
    })
    .await;
    let start = Instant::now();
    let mut answered = 0;
    let refused = loop {
        let answer = registry.send("GET", "/v2/").await;
        if answer.status() != 200 {
            break answer;
        }
        answered += 1;
    };
    // One more for each second that it took.
    let allowed = 3..=3 + start.elapsed().as_secs();
    assert!(allowed.contains(&answered), "{answered} of {allowed:?}");
    assert_eq!(header(&refused, "retry-after"), "1");
    assert_error(refused, 429, "TOOMANYREQUESTS").await;
    // A body on its way is no reason for a broken connection.
    let refused = loop {
        let post = registry
            .request("POST", "/v2/a/blobs/uploads/")
            .body(vec![0; 1024 * 1024]);
        let answer = post.send().await.unwrap();
        if answer.status() != 202 {
            break answer;
        }
    };
    assert_error(refused, 429, "TOOMANYREQUESTS").await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(registry.send("GET", path).await.status(), 200);
    }
    limiter.set(Limits::default());
    assert_eq!(registry.send("GET", "/v2/").await.status(), 200);
}

#[tokio::test]
async fn uploads_are_refused_while_too_many_run() {
    let (registry, _) = limited(Limits {
        uploads: NonZeroUsize::new(1),
        ..Limits::default()
    })
    .await;
    let location = registry.begin("a").await;
    let digest = Digest::sha256(b"0123456789");
    let mut running = tokio::net::TcpStream::connect(registry.address)
        .await
        .unwrap();
    let head = format!(
        "PUT {location}?digest={digest} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n"
    );
    running.write_all(head.as_bytes()).await.unwrap();
    // It has its place: the server asks for the body.
    let mut answer = [0; 25];
    running.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    let other = Digest::sha256(b"other");
    let refused = registry
        .request("POST", &format!("/v2/a/blobs/uploads/?digest={other}"))
        .body("other")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&refused, "retry-after"), "1");
    assert_error(refused, 503, "TOOMANYREQUESTS").await;
    // Reading, and beginning an upload, go on.
    assert_eq!(registry.send("GET", &location).await.status(), 204);
    registry.begin("a").await;
    running.write_all(b"0123456789").await.unwrap();
    let mut answer = [0; 12];
    running.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201");
    registry.push("a", "other").await;
}

#[tokio::test]
async fn manifests_may_be_as_large_as_the_operator_says() {
    let (registry, limiter) = limited(Limits {
        manifest_size: 300,
        ..Limits::default()
    })
    .await;
    let config = registry.push("a", "{}").await;
    let manifest = image(&config, &[&config, &config]).to_string();
    assert!(manifest.len() > 300);
    let put = || {
        registry
            .request("PUT", "/v2/a/manifests/x")
            .header("content-type", MANIFEST)
            .body(manifest.clone())
            .send()
    };
    assert_error(put().await.unwrap(), 413, "MANIFEST_INVALID").await;
    limiter.set(Limits::default());
    assert_eq!(put().await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_registry_that_is_read_only_takes_no_changes_and_makes_none() {
    let store = Store::memory();
    let digest = Digest::sha256(b"content");
    let body = crate::harness::body(&[b"content"]);
    store.put_blob(&name("a"), body, &digest).await.unwrap();
    let mut settings = ServerSettings {
        mode: Mode::ReadOnly,
        ..ServerSettings::default()
    };
    settings.upkeep.interval = Duration::from_millis(1);
    settings.upkeep.upload_expiry = Duration::ZERO;
    let upload = store
        .start_upload(&name("a"), deploy_spec::Algorithm::Sha256)
        .await
        .unwrap();
    let registry = TestRegistry::with(store.clone(), settings).await;
    let blob = format!("/v2/a/blobs/{digest}");
    for (method, path) in [
        ("POST", "/v2/a/blobs/uploads/"),
        ("PATCH", &format!("/v2/a/blobs/uploads/{}", upload.id)),
        ("PUT", "/v2/a/manifests/x"),
        ("DELETE", &blob),
    ] {
        let refused = registry.request(method, path).body("x").send();
        let refused = refused.await.unwrap();
        assert_eq!(header(&refused, "allow"), "GET, HEAD");
        assert_error(refused, 405, "UNSUPPORTED").await;
    }
    let pulled = registry.send("GET", &blob).await;
    assert_eq!(pulled.text().await.unwrap(), "content");
    let metrics = registry.send("GET", "/metrics").await.text().await.unwrap();
    assert!(metrics.contains("deploy_registry_upkeep_rounds_total 0\n"));
    assert!(store.upload(&name("a"), &upload.id).await.is_ok());
}

#[tokio::test]
async fn connections_wait_for_their_turn() {
    let settings = ServerSettings {
        connections: NonZeroUsize::new(1),
        ..ServerSettings::default()
    };
    let registry = TestRegistry::with(Store::memory(), settings).await;
    let ask = b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut answer = [0; 12];
    let mut first = tokio::net::TcpStream::connect(registry.address)
        .await
        .unwrap();
    first.write_all(ask).await.unwrap();
    first.read_exact(&mut answer).await.unwrap();
    let mut second = tokio::net::TcpStream::connect(registry.address)
        .await
        .unwrap();
    second.write_all(ask).await.unwrap();
    // As long as the first one is there, it can have no answer.
    first.write_all(ask).await.unwrap();
    first.read_exact(&mut answer).await.unwrap();
    let mut nothing = [0; 1];
    let early = second.try_read(&mut nothing);
    assert!(early.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    drop(first);
    second.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}
