//! `/v2/<name>/blobs/uploads/`.

use std::time::Duration;

use deploy_registry::{ServerSettings, Store};
use deploy_spec::{Algorithm, Digest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{TestRegistry, assert_error, content, header};

async fn assert_pushed(
    registry: &TestRegistry,
    response: reqwest::Response,
    digest: &Digest,
    bytes: &[u8],
) {
    assert_eq!(response.status(), 201);
    assert_eq!(
        header(&response, "docker-content-digest"),
        digest.to_string()
    );
    let location = header(&response, "location");
    assert_eq!(location, format!("/v2/a/b/blobs/{digest}"));
    let pulled = registry.send("GET", location).await;
    assert!(pulled.bytes().await.unwrap() == bytes);
}

fn assert_progress(response: &reqwest::Response, status: u16, range: &str) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(header(response, "range"), range);
    let location = header(response, "location").to_owned();
    let id = header(response, "docker-upload-uuid");
    assert_eq!(location, format!("/v2/a/b/blobs/uploads/{id}"));
    location
}

#[tokio::test]
async fn every_style_of_push_stores_the_blob() {
    let directory = tempfile::tempdir().unwrap();
    for store in [Store::memory(), Store::open(directory.path()).unwrap()] {
        let registry = TestRegistry::start(store).await;
        for (seed, size) in [0, 10, 200_000, 6_000_000].into_iter().enumerate() {
            for algorithm in Algorithm::ALL {
                let bytes = content(size, seed as u64);
                let digest = Digest::of(algorithm, &bytes);
                let delete = format!("/v2/a/b/blobs/{digest}");

                // One POST.
                let path = format!("/v2/a/b/blobs/uploads/?digest={digest}");
                let response = registry
                    .request("POST", &path)
                    .body(bytes.clone())
                    .send()
                    .await
                    .unwrap();
                assert_pushed(&registry, response, &digest, &bytes).await;
                assert_eq!(registry.send("DELETE", &delete).await.status(), 202);

                // POST, PUT.
                let location = registry.begin("a/b").await;
                let path = format!("{location}?digest={digest}");
                let response = registry
                    .request("PUT", &path)
                    .body(bytes.clone())
                    .send()
                    .await
                    .unwrap();
                assert_pushed(&registry, response, &digest, &bytes).await;
                assert_eq!(registry.send("DELETE", &delete).await.status(), 202);

                // POST with the algorithm, one PATCH without a length, PUT.
                let path = format!("/v2/a/b/blobs/uploads/?digest-algorithm={algorithm}");
                let response = registry.send("POST", &path).await;
                let location = assert_progress(&response, 202, "0-0");
                let pieces: Vec<Result<Vec<u8>, std::io::Error>> = bytes
                    .chunks(50_000)
                    .map(|piece| Ok(piece.to_vec()))
                    .collect();
                let stream = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
                let response = registry
                    .request("PATCH", &location)
                    .body(stream)
                    .send()
                    .await
                    .unwrap();
                let location =
                    assert_progress(&response, 202, &format!("0-{}", size.saturating_sub(1)));
                let response = registry
                    .send("PUT", &format!("{location}?digest={digest}"))
                    .await;
                assert_pushed(&registry, response, &digest, &bytes).await;
                assert_eq!(registry.send("GET", &location).await.status(), 404);
            }
        }
    }
}

#[tokio::test]
async fn chunks_come_in_order_and_the_session_survives_those_that_do_not() {
    let registry = TestRegistry::memory().await;
    let bytes = content(30_000, 1);
    let digest = Digest::sha256(&bytes);
    let location = registry.begin("a/b").await;
    let chunk = async |method: &str, path: &str, first: usize, last: usize| {
        registry
            .request(method, path)
            .header("content-range", format!("{first}-{last}"))
            .body(bytes[first..=last].to_vec())
            .send()
            .await
            .unwrap()
    };
    let response = chunk("PATCH", &location, 10_000, 19_999).await;
    assert_eq!(header(&response, "location"), location);
    assert_eq!(header(&response, "range"), "0-0");
    assert_error(response, 416, "BLOB_UPLOAD_INVALID").await;
    let location = assert_progress(&chunk("PATCH", &location, 0, 9_999).await, 202, "0-9999");
    let response = chunk("PATCH", &location, 0, 9_999).await;
    assert_eq!(header(&response, "range"), "0-9999");
    assert_error(response, 416, "BLOB_UPLOAD_INVALID").await;
    let closing = format!("{location}?digest={digest}");
    assert_error(
        chunk("PUT", &closing, 20_000, 29_999).await,
        416,
        "BLOB_UPLOAD_INVALID",
    )
    .await;
    let location = assert_progress(&registry.send("GET", &location).await, 204, "0-9999");
    let location = assert_progress(
        &chunk("PATCH", &location, 10_000, 19_999).await,
        202,
        "0-19999",
    );
    assert_eq!(closing, format!("{location}?digest={digest}"));
    let response = chunk("PUT", &closing, 20_000, 29_999).await;
    assert_pushed(&registry, response, &digest, &bytes).await;
}

#[tokio::test]
async fn bad_chunks_are_refused_and_change_nothing() {
    let registry = TestRegistry::memory().await;
    let location = registry.begin("a/b").await;
    let cases = [
        ("0-9", 5, 400, "SIZE_INVALID"),
        ("0-3", 5, 400, "SIZE_INVALID"),
        ("5-1", 5, 400, "BLOB_UPLOAD_INVALID"),
        ("x", 5, 400, "BLOB_UPLOAD_INVALID"),
        ("-5", 5, 400, "BLOB_UPLOAD_INVALID"),
        ("0-", 5, 400, "BLOB_UPLOAD_INVALID"),
        ("0-18446744073709551615", 5, 400, "BLOB_UPLOAD_INVALID"),
    ];
    for (range, length, status, code) in cases {
        for method in ["PATCH", "PUT"] {
            let path = format!("{location}?digest={}", Digest::sha256(b"aaaaa"));
            let request = registry
                .request(method, &path)
                .header("content-range", range);
            let response = request.body(vec![b'a'; length]).send().await.unwrap();
            assert_error(response, status, code).await;
        }
    }
    // The same where the length is not announced.
    for (range, code) in [("0-9", "SIZE_INVALID"), ("0-3", "SIZE_INVALID")] {
        let body =
            reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>(vec![
                b'a';
                5
            ])]));
        let request = registry
            .request("PATCH", &location)
            .header("content-range", range);
        assert_error(request.body(body).send().await.unwrap(), 400, code).await;
    }
    assert_progress(&registry.send("GET", &location).await, 204, "0-0");
}

#[tokio::test]
async fn bad_digests_are_refused_in_every_style() {
    let registry = TestRegistry::memory().await;
    let wrong = Digest::sha256(b"else").to_string();
    let digests = [
        wrong.as_str(),
        "sha256:x",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "x",
        "",
        "sha256:",
    ];
    for digest in digests {
        let path = format!("/v2/a/b/blobs/uploads/?digest={digest}");
        let response = registry
            .request("POST", &path)
            .body("content")
            .send()
            .await
            .unwrap();
        assert_error(response, 400, "DIGEST_INVALID").await;
        let location = registry.begin("a/b").await;
        let request = registry.request("PUT", &format!("{location}?digest={digest}"));
        assert_error(
            request.body("content").send().await.unwrap(),
            400,
            "DIGEST_INVALID",
        )
        .await;
        let path = format!("/v2/a/b/blobs/uploads/?mount={digest}");
        if digest != wrong {
            assert_error(registry.send("POST", &path).await, 400, "DIGEST_INVALID").await;
        }
    }
    let location = registry.begin("a/b").await;
    assert_error(registry.send("PUT", &location).await, 400, "DIGEST_INVALID").await;
    for algorithm in ["md5", "", "SHA256"] {
        let path = format!("/v2/a/b/blobs/uploads/?digest-algorithm={algorithm}");
        assert_error(registry.send("POST", &path).await, 400, "DIGEST_INVALID").await;
    }
}

#[tokio::test]
async fn cancelled_and_unknown_uploads_are_gone() {
    let registry = TestRegistry::memory().await;
    let location = registry.begin("a/b").await;
    let other = location.replace("/a/b/", "/a/c/");
    let digest = Digest::sha256(b"");
    for location in [other, "/v2/a/b/blobs/uploads/x".to_owned()] {
        for method in ["GET", "PATCH", "DELETE"] {
            let response = registry.send(method, &location).await;
            assert_error(response, 404, "BLOB_UPLOAD_UNKNOWN").await;
        }
        let response = registry
            .send("PUT", &format!("{location}?digest={digest}"))
            .await;
        assert_error(response, 404, "BLOB_UPLOAD_UNKNOWN").await;
    }
    assert_eq!(registry.send("DELETE", &location).await.status(), 204);
    assert_error(
        registry.send("DELETE", &location).await,
        404,
        "BLOB_UPLOAD_UNKNOWN",
    )
    .await;
}

#[tokio::test]
async fn mounts_need_the_blob_and_fall_back_to_an_upload() {
    let registry = TestRegistry::memory().await;
    let digest = registry.push("c", "content").await;
    let absent = Digest::sha256(b"absent");
    for from in ["&from=c", "", "&from="] {
        let path = format!("/v2/a/b/blobs/uploads/?mount={digest}{from}");
        let response = registry.send("POST", &path).await;
        assert_pushed(&registry, response, &digest, b"content").await;
        let delete = format!("/v2/a/b/blobs/{digest}");
        assert_eq!(registry.send("DELETE", &delete).await.status(), 202);
    }
    for query in [
        format!("mount={digest}&from=d"),
        format!("mount={absent}&from=c"),
        format!("mount={absent}"),
    ] {
        let response = registry
            .send("POST", &format!("/v2/a/b/blobs/uploads/?{query}"))
            .await;
        assert_progress(&response, 202, "0-0");
    }
    let response = registry
        .send(
            "POST",
            &format!("/v2/a/b/blobs/uploads/?mount={digest}&from=C"),
        )
        .await;
    assert_error(response, 400, "NAME_INVALID").await;
}

#[tokio::test]
async fn resumed_upload_goes_on_behind_what_arrived_before_the_connection_broke() {
    let directory = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(Store::open(directory.path()).unwrap()).await;
    let bytes = content(500_000, 1);
    let digest = Digest::sha256(&bytes);
    let location = registry.begin("a/b").await;
    let mut connection = tokio::net::TcpStream::connect(registry.address)
        .await
        .unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&bytes[..400_000]).await.unwrap();
    drop(connection);
    // The server finds out in its own time.
    let offset = loop {
        let status = registry.send("GET", &location).await;
        match header(&status, "range") {
            "0-0" => tokio::task::yield_now().await,
            range => break range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1,
        }
    };
    assert_eq!(offset, 400_000);
    let response = registry
        .request("PATCH", &location)
        .header("content-range", format!("{offset}-{}", bytes.len() - 1))
        .body(bytes[offset..].to_vec())
        .send()
        .await
        .unwrap();
    assert_progress(&response, 202, "0-499999");
    let response = registry
        .send("PUT", &format!("{location}?digest={digest}"))
        .await;
    assert_pushed(&registry, response, &digest, &bytes).await;
}

#[tokio::test]
async fn client_that_comes_back_takes_its_stalled_upload_over() {
    let registry = TestRegistry::memory().await;
    let location = registry.begin("a/b").await;
    // The connection lives, but after a few bytes nothing comes any more.
    let mut connection = tokio::net::TcpStream::connect(registry.address)
        .await
        .unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    connection.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.write_all(b"0123456789").await.unwrap();
    let digest = Digest::sha256(b"0123456789end");
    let closing = format!("{location}?digest={digest}");
    let response = loop {
        let request = registry
            .request("PUT", &closing)
            .header("content-range", "10-12");
        let response = request.body("end").send().await.unwrap();
        // So long it still counts as alive.
        if response.status() != 409 {
            break response;
        }
    };
    assert_pushed(&registry, response, &digest, b"0123456789end").await;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 409 "), "{answer}");
}

#[tokio::test]
async fn body_that_stalls_times_out_and_its_upload_goes_on() {
    let settings = ServerSettings {
        idle: Duration::from_millis(200),
        ..ServerSettings::default()
    };
    let registry = TestRegistry::with(Store::memory(), settings).await;
    // On a connection that is as short-lived, other requests may meet its end.
    let patiently = async |method: &str, path: &str| loop {
        let request = registry.request(method, path).header("connection", "close");
        if let Ok(response) = request.send().await {
            break response;
        }
    };
    // A machine so busy that the request itself comes too late gives it another connection.
    let (location, answer) = loop {
        let begun = patiently("POST", "/v2/a/b/blobs/uploads/").await;
        let location = header(&begun, "location").to_owned();
        let mut connection = tokio::net::TcpStream::connect(registry.address)
            .await
            .unwrap();
        let head = format!(
            "PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n0123456789"
        );
        let mut answer = String::new();
        if connection.write_all(head.as_bytes()).await.is_ok()
            && connection.read_to_string(&mut answer).await.is_ok()
            && !answer.is_empty()
        {
            break (location, answer);
        }
    };
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_progress(&patiently("GET", &location).await, 204, "0-9");
}
