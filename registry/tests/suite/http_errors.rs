//! What clients are told when they, or the store, do not behave.

use std::io::ErrorKind;

use deploy_registry::Store;
use deploy_spec::Digest;
use object_store::memory::InMemory;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    faults::Faulty,
    harness::{MANIFEST, TestRegistry, assert_error, content, header, image},
};

#[tokio::test]
async fn bad_names_references_and_paths_are_refused() {
    let registry = TestRegistry::memory().await;
    let long = "a".repeat(256);
    let cases = [
        ("/v2/A/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/a//b/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/a-/tags/list".to_owned(), 400, "NAME_INVALID"),
        (format!("/v2/{long}/tags/list"), 400, "NAME_INVALID"),
        ("/v2/a/manifests/-x".to_owned(), 400, "MANIFEST_INVALID"),
        (
            format!("/v2/a/manifests/{}", "x".repeat(129)),
            400,
            "MANIFEST_INVALID",
        ),
        ("/v2/a/manifests/sha256:x".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/a/blobs/sha256:x".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/a/blobs/..".to_owned(), 404, "UNSUPPORTED"),
        ("/v2/a".to_owned(), 404, "UNSUPPORTED"),
        ("/v1/".to_owned(), 404, "UNSUPPORTED"),
        ("/".to_owned(), 404, "UNSUPPORTED"),
    ];
    for (path, status, code) in cases {
        assert_error(registry.send("GET", &path).await, status, code).await;
    }
    for (method, path) in [
        ("PUT", "/v2/"),
        ("POST", "/v2/a/manifests/x"),
        ("GET", "/v2/a/blobs/uploads/"),
        ("BREW", "/v2/a/tags/list"),
    ] {
        let response = registry.send(method, path).await;
        assert_ne!(header(&response, "allow"), "");
        assert_error(response, 405, "UNSUPPORTED").await;
    }
}

#[tokio::test]
async fn bytes_that_are_no_http_close_the_connection_and_nothing_else() {
    let registry = TestRegistry::memory().await;
    let long_header = format!("GET /v2/ HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let garbage: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage garbage garbage garbage",
        long_header.as_bytes(),
    ];
    for bytes in garbage {
        let mut connection = tokio::net::TcpStream::connect(registry.address)
            .await
            .unwrap();
        // It may be closed while we write, and reset what we would read.
        let _ = connection.write_all(bytes).await;
        let _ = connection.shutdown().await;
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer).await;
        assert!(
            !answer.starts_with(b"HTTP/1.1 2"),
            "{:?}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert_eq!(registry.send("GET", "/v2/").await.status(), 200);
}

#[tokio::test]
async fn full_storage_is_said_and_everything_else_goes_on() {
    let content = content(100, 1);
    let digest = Digest::sha256(&content);
    let healthy = InMemory::new();
    let pushed = TestRegistry::start(Store::multipart(healthy.clone()))
        .await
        .push("a", "{}")
        .await;
    for operations in 1..20 {
        let left = healthy.fork();
        let faulty = Faulty::new(left.clone(), operations, false, ErrorKind::StorageFull);
        let registry = TestRegistry::start(Store::multipart(faulty.clone())).await;
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        let response = registry
            .request("POST", &path)
            .body(content.clone())
            .send()
            .await
            .unwrap();
        if response.status() == 507 {
            assert_error(response, 507, "UNKNOWN").await;
        } else {
            assert_eq!(response.status(), 201);
            let manifest = image(&pushed, &[]).to_string();
            let request = registry
                .request("PUT", "/v2/a/manifests/v1")
                .header("content-type", MANIFEST);
            let response = request.body(manifest).send().await.unwrap();
            assert!([201, 507].contains(&response.status().as_u16()));
        }
        // With room again, all is as it was.
        let registry = TestRegistry::start(Store::multipart(left)).await;
        let response = registry.send("GET", &format!("/v2/a/blobs/{pushed}")).await;
        assert_eq!(response.text().await.unwrap(), "{}");
        assert_eq!(registry.push("a", &content).await, digest);
        if !faulty.has_failed() {
            return;
        }
    }
    panic!("a push takes too many operations");
}

#[tokio::test]
async fn failing_storage_is_an_internal_error_that_tells_no_secrets() {
    let faulty = Faulty::new(InMemory::new(), 1, false, ErrorKind::PermissionDenied);
    let registry = TestRegistry::start(Store::multipart(faulty)).await;
    let response = registry
        .request("GET", "/v2/a/manifests/v1")
        .header("x-request-id", "id-1")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&response, "x-request-id"), "id-1");
    assert_eq!(response.status(), 500);
    let body = response.text().await.unwrap();
    assert!(
        body.contains("\"UNKNOWN\"") && !body.to_lowercase().contains("permission"),
        "{body}"
    );
    assert_eq!(registry.send("GET", "/readyz").await.status(), 503);
    assert_eq!(registry.send("GET", "/healthz").await.status(), 200);
}
