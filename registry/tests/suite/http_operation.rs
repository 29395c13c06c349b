//! What operators see, and how connections begin and end.

use std::time::Duration;

use deploy_registry::{ServerSettings, Store};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{TestRegistry, header};

#[tokio::test]
async fn registry_says_what_it_is() {
    let registry = TestRegistry::memory().await;
    for path in ["/v2/", "/v2"] {
        let response = registry.send("GET", path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(
            header(&response, "docker-distribution-api-version"),
            "registry/2.0"
        );
        assert_eq!(response.text().await.unwrap(), "{}");
    }
    for path in ["/v2/_oci/ext/discover", "/v2/a/b/_oci/ext/discover"] {
        let body: Value = registry.send("GET", path).await.json().await.unwrap();
        assert_eq!(body["extensions"][0]["name"], "_deploytools");
        assert!(body["extensions"][0]["endpoints"].is_array());
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            registry.send("GET", path).await.text().await.unwrap(),
            "ok\n"
        );
    }
}

#[tokio::test]
async fn requests_are_counted() {
    let registry = TestRegistry::memory().await;
    registry.push("a", "0123456789").await;
    registry.send("GET", "/v2/a/manifests/x").await;
    registry.send("BREW", "/nothing").await;
    let response = registry.send("GET", "/metrics").await;
    assert_eq!(
        header(&response, "content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = response.text().await.unwrap();
    for line in [
        "deploy_registry_http_requests_total{route=\"uploads\",method=\"POST\",status=\"201\"} 1",
        "deploy_registry_http_requests_total{route=\"manifest\",method=\"GET\",status=\"404\"} 1",
        "deploy_registry_http_requests_total{route=\"other\",method=\"other\",status=\"404\"} 1",
        "deploy_registry_http_received_bytes_total{route=\"uploads\"} 10",
        "deploy_registry_http_request_duration_seconds_count{route=\"uploads\",method=\"POST\"} 1",
        "deploy_registry_store_operations_total{operation=\"get\",outcome=\"absent\"} 1",
        "deploy_registry_http_connections 1",
        "deploy_registry_uploads_running 0",
        "deploy_registry_build_info{version=\"0.1.0\"} 1",
        "deploy_registry_http_requests_running 1",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
}

#[tokio::test]
async fn request_ids_are_given_and_kept() {
    let registry = TestRegistry::memory().await;
    let one = registry.send("GET", "/v2/").await;
    let other = registry.send("GET", "/nothing").await;
    assert_eq!(header(&one, "x-request-id").len(), 16);
    assert_ne!(header(&one, "x-request-id"), header(&other, "x-request-id"));
    for (given, kept) in [
        ("a-1.b:2", true),
        ("", false),
        ("a b", false),
        (&"x".repeat(129), false),
    ] {
        let response = registry
            .request("GET", "/v2/")
            .header("x-request-id", given)
            .send()
            .await
            .unwrap();
        assert_eq!(header(&response, "x-request-id") == given, kept, "{given}");
    }
}

#[tokio::test]
async fn http_2_without_tls_works_on_the_same_port() {
    let registry = TestRegistry::memory().await;
    let digest = registry.push("a", "content").await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let response = client
        .get(format!("{}/v2/a/blobs/{digest}", registry.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.text().await.unwrap(), "content");
}

#[tokio::test]
async fn connection_ends_at_its_deadline_and_between_requests() {
    let settings = ServerSettings {
        deadline: Some(Duration::from_millis(300)),
        ..ServerSettings::default()
    };
    let registry = TestRegistry::with(Store::memory(), settings).await;
    // A machine so busy that the request comes too late gives it another connection.
    let answer = loop {
        let mut connection = tokio::net::TcpStream::connect(registry.address)
            .await
            .unwrap();
        let ask = b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n";
        let mut answer = String::new();
        if connection.write_all(ask).await.is_ok()
            && connection.read_to_string(&mut answer).await.is_ok()
            && !answer.is_empty()
        {
            break answer;
        }
    };
    assert!(answer.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn connection_that_does_not_get_to_its_first_request_ends() {
    let settings = ServerSettings {
        idle: Duration::from_millis(100),
        deadline: None,
        ..ServerSettings::default()
    };
    let registry = TestRegistry::with(Store::memory(), settings).await;
    for beginning in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "GET /v2/ HT",
        "GET / HTTP/1.1\r\nhost: x",
    ] {
        let mut connection = tokio::net::TcpStream::connect(registry.address)
            .await
            .unwrap();
        connection.write_all(beginning.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(!answer.starts_with("HTTP/1.1 2"), "`{beginning}`: {answer}");
    }
}

#[tokio::test]
async fn stopping_finishes_requests_in_flight() {
    let registry = TestRegistry::memory().await;
    let address = registry.address;
    let location = registry.begin("a").await;
    let digest = deploy_spec::Digest::sha256(b"0123456789");
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT {location}?digest={digest} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    // The server says that it waits for the body.
    let mut answer = [0; 25];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    let stopped = registry.stop();
    // It takes no more connections.
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopped.is_finished());
    connection.write_all(b"0123456789").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    stopped.await.unwrap();
}
