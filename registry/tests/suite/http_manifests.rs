//! `/v2/<name>/manifests/<reference>`.

use std::time::{Duration, Instant};

use deploy_spec::{Algorithm, Digest};
use serde_json::{Value, json};

use crate::harness::{INDEX, MANIFEST, TestRegistry, assert_error, header, image};

async fn put(
    registry: &TestRegistry,
    reference: &str,
    content_type: &str,
    body: impl Into<Vec<u8>>,
) -> reqwest::Response {
    registry
        .request("PUT", &format!("/v2/a/b/manifests/{reference}"))
        .header("content-type", content_type)
        .body(body.into())
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn manifests_are_sent_byte_for_byte_with_all_their_headers() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    let bytes = format!("\n{:#}  ", image(&config, &[]));
    let response = put(
        &registry,
        "v1",
        &format!("{MANIFEST}; charset=utf-8"),
        bytes.as_bytes(),
    )
    .await;
    let digest = Digest::sha256(bytes.as_bytes());
    assert_eq!(response.status(), 201);
    assert_eq!(
        header(&response, "location"),
        format!("/v2/a/b/manifests/{digest}")
    );
    assert_eq!(
        header(&response, "docker-content-digest"),
        digest.to_string()
    );
    assert_eq!(header(&response, "oci-subject"), "");
    for reference in ["v1", &digest.to_string()] {
        for method in ["GET", "HEAD"] {
            let response = registry
                .send(method, &format!("/v2/a/b/manifests/{reference}"))
                .await;
            assert_eq!(response.status(), 200);
            assert_eq!(header(&response, "content-type"), MANIFEST);
            assert_eq!(header(&response, "content-length"), bytes.len().to_string());
            assert_eq!(
                header(&response, "docker-content-digest"),
                digest.to_string()
            );
            assert_eq!(header(&response, "etag"), format!("\"{digest}\""));
            let expected = if method == "GET" { bytes.as_str() } else { "" };
            assert_eq!(response.text().await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn documents_that_are_no_manifests_are_refused() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    let mut ambiguous = image(&config, &[]);
    ambiguous["manifests"] = json!([]);
    let image = image(&config, &[]).to_string();
    let cases = [
        (MANIFEST, String::new()),
        (MANIFEST, "{".to_owned()),
        (MANIFEST, "[]".to_owned()),
        (MANIFEST, "<html>".to_owned()),
        (
            MANIFEST,
            image.replace("\"schemaVersion\":2", "\"schemaVersion\":1"),
        ),
        (MANIFEST, ambiguous.to_string()),
        (INDEX, image.clone()),
        ("text/html", image),
    ];
    for (content_type, document) in cases {
        let response = put(&registry, "v1", content_type, document).await;
        assert_error(response, 400, "MANIFEST_INVALID").await;
    }
    assert_error(
        registry.send("GET", "/v2/a/b/tags/list").await,
        404,
        "NAME_UNKNOWN",
    )
    .await;
}

#[tokio::test]
async fn digest_in_the_path_must_be_that_of_the_body() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    let bytes = image(&config, &[]).to_string();
    for digest in [
        Digest::sha256(b"else"),
        Digest::of(Algorithm::Sha512, b"else"),
    ] {
        let response = put(&registry, &digest.to_string(), MANIFEST, bytes.as_bytes()).await;
        assert_error(response, 400, "DIGEST_INVALID").await;
    }
    for reference in ["sha256:baddigeststring", "md5:x"] {
        let response = put(&registry, reference, MANIFEST, bytes.as_bytes()).await;
        assert_error(response, 400, "DIGEST_INVALID").await;
    }
    let response = put(&registry, "-bad", MANIFEST, bytes.as_bytes()).await;
    assert_error(response, 400, "MANIFEST_INVALID").await;
}

#[tokio::test]
async fn content_that_was_never_pushed_is_missed_where_it_matters() {
    let registry = TestRegistry::memory().await;
    let (config, layer) = (
        registry.push("a/b", "{}").await,
        registry.push("a/b", "layer").await,
    );
    registry.push("else", "elsewhere").await;
    let (absent, elsewhere) = (Digest::sha256(b"absent"), Digest::sha256(b"elsewhere"));
    for (config, layers) in [
        (&absent, vec![&layer]),
        (&config, vec![&absent]),
        (&config, vec![&elsewhere, &absent]),
    ] {
        let response = put(
            &registry,
            "v1",
            MANIFEST,
            image(config, &layers).to_string(),
        )
        .await;
        assert_error(response, 400, "MANIFEST_BLOB_UNKNOWN").await;
    }
    let index = |digests: &[&Digest]| {
        let manifests: Vec<Value> = digests
            .iter()
            .map(|digest| json!({ "mediaType": MANIFEST, "digest": digest, "size": 1 }))
            .collect();
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
    };
    let response = put(&registry, "v1", INDEX, index(&[&absent]).to_string()).await;
    assert_error(response, 400, "MANIFEST_BLOB_UNKNOWN").await;

    let mut elsewhere = image(&config, &[&absent]);
    elsewhere["layers"][0]["urls"] = json!(["https://example.org/layer"]);
    let mut orphan = image(&config, &[]);
    orphan["subject"] = json!({ "mediaType": MANIFEST, "digest": absent, "size": 1 });
    for complete in [
        image(&config, &[&layer]),
        image(&config, &[]),
        elsewhere,
        orphan,
        index(&[]),
    ] {
        let media_type = complete["mediaType"].as_str().unwrap();
        let response = put(&registry, "v1", media_type, complete.to_string()).await;
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "warning"), "");
    }
    let child = registry
        .push_manifest("a/b", "v1", &image(&config, &[&layer]))
        .await;
    for sparse in [
        image(&config, &[&layer, &absent]),
        index(&[&child, &absent]),
    ] {
        let media_type = sparse["mediaType"].as_str().unwrap();
        let response = put(&registry, "v1", media_type, sparse.to_string()).await;
        assert_eq!(response.status(), 201);
        assert!(header(&response, "warning").starts_with("299 - \"1 of "));
    }
}

#[tokio::test]
async fn large_manifests_are_taken_up_to_the_limit() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    for (length, status) in [
        (4 << 20, 201),
        ((8 << 20) - 1000, 201),
        ((8 << 20) + 1, 413),
    ] {
        let mut manifest = image(&config, &[]);
        manifest["annotations"] = json!({ "x": "a".repeat(length) });
        let response = put(&registry, "v1", MANIFEST, manifest.to_string()).await;
        assert_eq!(response.status(), status, "{length}");
    }
    // The same where the length is not announced.
    let pieces = std::iter::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 20])).take(9);
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let request = registry
        .request("PUT", "/v2/a/b/manifests/v1")
        .header("content-type", MANIFEST);
    assert_error(
        request.body(body).send().await.unwrap(),
        413,
        "MANIFEST_INVALID",
    )
    .await;
}

#[tokio::test]
async fn manifest_by_digest_takes_tags_as_parameters() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    let bytes = image(&config, &[]).to_string();
    for digest in [
        Digest::sha256(bytes.as_bytes()),
        Digest::of(Algorithm::Sha512, bytes.as_bytes()),
    ] {
        let tags: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
        let query = tags.join("&tag=");
        let response = put(
            &registry,
            &format!("{digest}?tag={query}"),
            MANIFEST,
            bytes.as_bytes(),
        )
        .await;
        assert_eq!(response.status(), 201);
        let accepted: Vec<&str> = response
            .headers()
            .get_all("oci-tag")
            .iter()
            .map(|tag| tag.to_str().unwrap())
            .collect();
        assert_eq!(accepted, tags);
        for tag in tags {
            let response = registry
                .send("HEAD", &format!("/v2/a/b/manifests/{tag}"))
                .await;
            assert_eq!(
                header(&response, "docker-content-digest"),
                digest.to_string()
            );
        }
    }
    let digest = Digest::sha256(bytes.as_bytes());
    let response = put(
        &registry,
        &format!("{digest}?tag=-bad"),
        MANIFEST,
        bytes.as_bytes(),
    )
    .await;
    assert_error(response, 400, "MANIFEST_INVALID").await;
    let many = vec!["x"; 101]
        .iter()
        .enumerate()
        .map(|(number, _)| format!("tag=x{number}&"))
        .collect::<String>();
    let response = put(
        &registry,
        &format!("{digest}?{many}"),
        MANIFEST,
        bytes.as_bytes(),
    )
    .await;
    assert_error(response, 414, "MANIFEST_INVALID").await;
}

#[tokio::test]
async fn deleting_by_digest_takes_the_tags_along() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    let digest = registry
        .push_manifest("a/b", "v1", &image(&config, &[]))
        .await;
    registry
        .push_manifest("a/b", "v2", &image(&config, &[]))
        .await;
    assert_eq!(
        registry
            .send("DELETE", "/v2/a/b/manifests/v1")
            .await
            .status(),
        202
    );
    assert_error(
        registry.send("GET", "/v2/a/b/manifests/v1").await,
        404,
        "MANIFEST_UNKNOWN",
    )
    .await;
    assert_error(
        registry.send("DELETE", "/v2/a/b/manifests/v1").await,
        404,
        "MANIFEST_UNKNOWN",
    )
    .await;
    assert_eq!(
        registry.send("GET", "/v2/a/b/manifests/v2").await.status(),
        200
    );
    let path = format!("/v2/a/b/manifests/{digest}");
    assert_eq!(registry.send("DELETE", &path).await.status(), 202);
    for path in [
        path.as_str(),
        "/v2/a/b/manifests/v2",
        "/v2/never/manifests/v1",
    ] {
        assert_error(registry.send("GET", path).await, 404, "MANIFEST_UNKNOWN").await;
        assert_error(registry.send("DELETE", path).await, 404, "MANIFEST_UNKNOWN").await;
    }
}

#[tokio::test]
async fn conditional_pushes_change_a_tag_only_as_announced() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    let layer = registry.push("a/b", "layer").await;
    let (one, two) = (
        image(&config, &[]).to_string(),
        image(&config, &[&layer]).to_string(),
    );
    let (first, second) = (
        Digest::sha256(one.as_bytes()),
        Digest::sha256(two.as_bytes()),
    );
    let put = async |document: &str, condition: &str, value: &str| {
        let request = registry
            .request("PUT", "/v2/a/b/manifests/latest")
            .header("content-type", MANIFEST);
        let response = request
            .header(condition, value)
            .body(document.to_owned())
            .send()
            .await
            .unwrap();
        (
            response.status().as_u16(),
            header(&response, "etag").to_owned(),
        )
    };
    let tag = |digest: &Digest| format!("\"{digest}\"");
    assert_eq!(
        put(&one, "if-match", &tag(&first)).await,
        (412, String::new())
    );
    assert_eq!(put(&one, "if-match", "*").await, (412, String::new()));
    assert_eq!(put(&one, "if-none-match", "*").await, (201, tag(&first)));
    assert_eq!(put(&two, "if-none-match", "*").await, (412, tag(&first)));
    assert_eq!(
        put(&two, "if-match", &tag(&second)).await,
        (412, tag(&first))
    );
    assert_eq!(
        put(&two, "if-match", "\"nonsense\"").await,
        (412, tag(&first))
    );
    assert_eq!(
        put(&two, "if-match", &tag(&first)).await,
        (201, tag(&second))
    );
    assert_eq!(put(&one, "if-match", "*").await, (201, tag(&first)));
}

#[tokio::test]
async fn conditional_reads_and_long_polls() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    let layer = registry.push("a/b", "layer").await;
    let first = registry
        .push_manifest("a/b", "latest", &image(&config, &[]))
        .await;
    let poll = |method: &str, known: &Digest, prefer: &str| {
        let request = registry.request(method, "/v2/a/b/manifests/latest");
        request
            .header("if-none-match", format!("\"{known}\""))
            .header("prefer", prefer)
            .send()
    };
    for method in ["GET", "HEAD"] {
        let response = poll(method, &first, "").await.unwrap();
        assert_eq!(response.status(), 304);
        assert_eq!(header(&response, "etag"), format!("\"{first}\""));
        assert_eq!(header(&response, "preference-applied"), "");

        // Time is up.
        let started = Instant::now();
        let response = poll(method, &first, "wait=1").await.unwrap();
        assert_eq!(response.status(), 304);
        assert_eq!(header(&response, "preference-applied"), "wait=1");
        assert!(started.elapsed() >= Duration::from_secs(1));

        // There is news already.
        let response = poll(method, &Digest::sha256(b"old"), "wait=100")
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "preference-applied"), "wait=100");
        assert_eq!(
            header(&response, "docker-content-digest"),
            first.to_string()
        );
    }
    // News comes while one waits, more than one.
    let waiting = futures::future::join_all((0..20).map(|_| poll("GET", &first, "wait=100")));
    let push = async {
        registry
            .push_manifest("a/b", "other", &image(&config, &[&layer]))
            .await;
        registry
            .push_manifest("a/b", "latest", &image(&config, &[&layer]))
            .await
    };
    let (responses, second) = tokio::join!(waiting, push);
    for response in responses {
        let response = response.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            header(&response, "docker-content-digest"),
            second.to_string()
        );
        assert_eq!(
            response.json::<Value>().await.unwrap(),
            image(&config, &[&layer])
        );
    }
    // The tag goes while one waits.
    let remove = registry.send("DELETE", "/v2/a/b/manifests/latest");
    let (response, removed) = tokio::join!(poll("GET", &second, "wait=100"), remove);
    assert_eq!(removed.status(), 202);
    assert_error(response.unwrap(), 404, "MANIFEST_UNKNOWN").await;
}

#[tokio::test]
async fn long_poll_ends_when_the_server_stops() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    let digest = registry
        .push_manifest("a/b", "latest", &image(&config, &[]))
        .await;
    let poll = registry
        .request("GET", "/v2/a/b/manifests/latest")
        .header("if-none-match", format!("\"{digest}\""))
        .header("prefer", "wait=200");
    let poll = tokio::spawn(poll.send());
    // Until it waits: one request runs, besides the one that asks.
    loop {
        let metrics = registry.send("GET", "/metrics").await.text().await.unwrap();
        if metrics.contains("http_requests_running 2") {
            break;
        }
    }
    registry.stop().await.unwrap();
    assert_eq!(poll.await.unwrap().unwrap().status(), 304);
}
