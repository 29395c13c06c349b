//! `/v2/<name>/blobs/<digest>`.

use deploy_registry::Store;
use deploy_spec::{Algorithm, Digest};

use crate::harness::{TestRegistry, assert_error, content, header};

#[tokio::test]
async fn blobs_are_described_and_sent_with_all_their_headers() {
    let directory = tempfile::tempdir().unwrap();
    for store in [Store::memory(), Store::open(directory.path()).unwrap()] {
        let registry = TestRegistry::start(store).await;
        for size in [0, 10, 1_000_000] {
            let bytes = content(size, 1);
            let digest = registry.push("a/b", &bytes).await;
            let path = format!("/v2/a/b/blobs/{digest}");
            for method in ["GET", "HEAD"] {
                let response = registry.send(method, &path).await;
                assert_eq!(response.status(), 200);
                assert_eq!(header(&response, "content-length"), size.to_string());
                assert_eq!(
                    header(&response, "content-type"),
                    "application/octet-stream"
                );
                assert_eq!(
                    header(&response, "docker-content-digest"),
                    digest.to_string()
                );
                assert_eq!(header(&response, "etag"), format!("\"{digest}\""));
                assert_eq!(header(&response, "accept-ranges"), "bytes");
                let expected = if method == "GET" { &bytes[..] } else { &[] };
                assert!(response.bytes().await.unwrap() == expected);
            }
        }
    }
}

#[tokio::test]
async fn ranges_select_what_they_say() {
    let directory = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(Store::open(directory.path()).unwrap()).await;
    for size in [2048, 700_000_usize] {
        let bytes = content(size, 1);
        let digest = registry.push("a", &bytes).await;
        let end = size - 1;
        let parts = [
            ("bytes=0-0".to_owned(), 0, 0),
            ("bytes=500-1499".to_owned(), 500, 1499),
            ("bytes=500-".to_owned(), 500, end),
            ("bytes=-500".to_owned(), size - 500, end),
            ("bytes=-9999999".to_owned(), 0, end),
            (format!("bytes=2000-{}", size * 2), 2000, end),
            (format!("bytes={end}-{end}"), end, end),
            ("bytes=0-99999999999999999999999".to_owned(), 0, end),
        ];
        for (range, first, last) in parts {
            let request = registry.request("GET", &format!("/v2/a/blobs/{digest}"));
            let response = request.header("range", &range).send().await.unwrap();
            assert_eq!(response.status(), 206, "{range}");
            assert_eq!(
                header(&response, "content-range"),
                format!("bytes {first}-{last}/{size}")
            );
            assert_eq!(
                header(&response, "content-length"),
                (last - first + 1).to_string()
            );
            assert!(
                response.bytes().await.unwrap() == bytes[first..=last],
                "{range}"
            );
        }
        for range in [
            format!("bytes={size}-"),
            "bytes=500-0".to_owned(),
            "bytes=-0".to_owned(),
        ] {
            let request = registry.request("GET", &format!("/v2/a/blobs/{digest}"));
            let response = request.header("range", &range).send().await.unwrap();
            assert_eq!(response.status(), 416, "{range}");
            assert_eq!(
                header(&response, "content-range"),
                format!("bytes */{size}")
            );
            assert_error(response, 416, "SIZE_INVALID").await;
        }
        for range in [
            "bytes=0-1,5-6",
            "bytes=",
            "bytes=a-b",
            "items=0-1",
            "0-1",
            "bytes=+1-2",
        ] {
            let request = registry.request("GET", &format!("/v2/a/blobs/{digest}"));
            let response = request.header("range", range).send().await.unwrap();
            assert_eq!(response.status(), 200, "{range}");
            assert!(response.bytes().await.unwrap() == bytes, "{range}");
        }
    }
}

#[tokio::test]
async fn conditional_reads_of_blobs() {
    let registry = TestRegistry::memory().await;
    let digest = registry.push("a", "content").await;
    let path = format!("/v2/a/blobs/{digest}");
    for method in ["GET", "HEAD"] {
        let request = registry.request(method, &path);
        let response = request
            .header("if-none-match", format!("\"{digest}\""))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 304);
        assert_eq!(header(&response, "etag"), format!("\"{digest}\""));
    }
    for (tag, status) in [(format!("\"{digest}\""), 206), ("\"else\"".to_owned(), 200)] {
        let request = registry.request("GET", &path).header("range", "bytes=0-1");
        let response = request.header("if-range", tag).send().await.unwrap();
        assert_eq!(response.status(), status);
    }
}

#[tokio::test]
async fn deleted_blob_is_gone_at_once() {
    let registry = TestRegistry::memory().await;
    let digest = registry.push("a", "content").await;
    let path = format!("/v2/a/blobs/{digest}");
    assert_eq!(registry.send("DELETE", &path).await.status(), 202);
    assert_eq!(registry.send("HEAD", &path).await.status(), 404);
    assert_error(registry.send("GET", &path).await, 404, "BLOB_UNKNOWN").await;
    assert_error(registry.send("DELETE", &path).await, 404, "BLOB_UNKNOWN").await;
}

#[tokio::test]
async fn blobs_are_found_only_where_they_are() {
    let registry = TestRegistry::memory().await;
    let digest = registry.push("a", "content").await;
    let absent = Digest::of(Algorithm::Sha512, b"content");
    for path in [
        format!("/v2/b/blobs/{digest}"),
        format!("/v2/a/blobs/{absent}"),
    ] {
        assert_error(registry.send("GET", &path).await, 404, "BLOB_UNKNOWN").await;
    }
    let path = format!("/v2/a/blobs/{digest}?ns=example.org&unknown=1");
    assert_eq!(registry.send("GET", &path).await.status(), 200);
}
