//! Tag lists, referrers, catalog: contents and pages.

use deploy_spec::{Digest, listing::parse_next_link};
use serde_json::{Value, json};

use crate::harness::{INDEX, MANIFEST, TestRegistry, assert_error, header, image};

/// Follows `Link` from page to page, and returns what each of them lists under `key`.
async fn pages(registry: &TestRegistry, path: &str, key: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let response = registry.send("GET", &path).await;
        assert_eq!(response.status(), 200, "{path}");
        next = parse_next_link(header(&response, "link")).map(str::to_owned);
        let body: Value = response.json().await.unwrap();
        pages.push(body[key].as_array().unwrap().clone());
        assert!(pages.len() < 100, "pages without end");
    }
    pages
}

#[tokio::test]
async fn tags_are_listed_in_pages() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    for tag in ["b", "a", "C", "d.1", "_e"] {
        registry
            .push_manifest("a/b", tag, &image(&config, &[]))
            .await;
    }
    let all = json!(["C", "_e", "a", "b", "d.1"]);
    let response = registry.send("GET", "/v2/a/b/tags/list").await;
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(header(&response, "link"), "");
    assert_eq!(
        response.json::<Value>().await.unwrap(),
        json!({ "name": "a/b", "tags": all })
    );
    for size in 1..=6 {
        let pages = pages(&registry, &format!("/v2/a/b/tags/list?n={size}"), "tags").await;
        assert!(pages.iter().rev().skip(1).all(|page| page.len() == size));
        assert_eq!(json!(pages.concat()), all);
    }
    let response = registry.send("GET", "/v2/a/b/tags/list?n=2&last=_e").await;
    assert_eq!(
        header(&response, "link"),
        "</v2/a/b/tags/list?n=2&last=b>; rel=\"next\""
    );
    assert_eq!(
        response.json::<Value>().await.unwrap()["tags"],
        json!(["a", "b"])
    );
    let response = registry.send("GET", "/v2/a/b/tags/list?n=0").await;
    assert_eq!(header(&response, "link"), "");
    assert_eq!(response.json::<Value>().await.unwrap()["tags"], json!([]));
    let response = registry.send("GET", "/v2/a/b/tags/list?last=zzz").await;
    assert_eq!(response.json::<Value>().await.unwrap()["tags"], json!([]));
    for query in ["n=x", "n=-1", "last=-bad"] {
        let response = registry
            .send("GET", &format!("/v2/a/b/tags/list?{query}"))
            .await;
        assert_eq!(response.status(), 400, "{query}");
    }
    assert_error(
        registry.send("GET", "/v2/never/tags/list").await,
        404,
        "NAME_UNKNOWN",
    )
    .await;
}

#[tokio::test]
async fn repository_without_tags_lists_none_and_one_without_manifests_is_unknown() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    assert_error(
        registry.send("GET", "/v2/a/b/tags/list").await,
        404,
        "NAME_UNKNOWN",
    )
    .await;
    registry
        .push_manifest("a/b", "v1", &image(&config, &[]))
        .await;
    assert_eq!(
        registry
            .send("DELETE", "/v2/a/b/manifests/v1")
            .await
            .status(),
        202
    );
    let response = registry.send("GET", "/v2/a/b/tags/list").await;
    assert_eq!(
        response.json::<Value>().await.unwrap(),
        json!({ "name": "a/b", "tags": [] })
    );
}

#[tokio::test]
async fn catalog_is_listed_in_pages() {
    let registry = TestRegistry::memory().await;
    let all = ["a", "a-b", "a.b", "a/b", "b"];
    for name in all {
        let config = registry.push(name, "{}").await;
        registry
            .push_manifest(name, "v1", &image(&config, &[]))
            .await;
    }
    registry.push("blobs-only", "{}").await;
    for size in 1..=6 {
        let pages = pages(&registry, &format!("/v2/_catalog?n={size}"), "repositories").await;
        assert_eq!(json!(pages.concat()), json!(all));
    }
    let response = registry.send("GET", "/v2/_catalog?n=1&last=a-b").await;
    assert_eq!(
        header(&response, "link"),
        "</v2/_catalog?n=1&last=a.b>; rel=\"next\""
    );
    for query in ["n=x", "last=BAD"] {
        assert_eq!(
            registry
                .send("GET", &format!("/v2/_catalog?{query}"))
                .await
                .status(),
            400,
            "{query}"
        );
    }
}

#[tokio::test]
async fn referrers_are_listed_filtered_and_in_pages() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    let subject = registry
        .push_manifest("a/b", "v1", &image(&config, &[]))
        .await;
    let path = format!("/v2/a/b/referrers/{subject}");
    let response = registry.send("GET", &path).await;
    assert_eq!(header(&response, "content-type"), INDEX);
    let empty = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] });
    assert_eq!(response.json::<Value>().await.unwrap(), empty);

    let mut expected = Vec::new();
    for number in 0..7 {
        let mut referrer = image(&config, &[]);
        referrer["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
        let mut descriptor = json!({ "mediaType": MANIFEST });
        match number {
            // Falls back to the type of the configuration.
            0 => descriptor["artifactType"] = referrer["config"]["mediaType"].clone(),
            1 => {
                let index = json!({
                    "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": referrer["subject"],
                });
                referrer = index;
                descriptor = json!({ "mediaType": INDEX });
            }
            number => {
                referrer["artifactType"] =
                    json!(format!("application/vnd.test.{}+json", number % 2));
                referrer["annotations"] = json!({ "number": number.to_string() });
                descriptor["artifactType"] = referrer["artifactType"].clone();
                descriptor["annotations"] = referrer["annotations"].clone();
            }
        }
        let bytes = referrer.to_string();
        let digest = Digest::sha256(bytes.as_bytes());
        descriptor["digest"] = json!(digest);
        descriptor["size"] = json!(bytes.len());
        let response = registry
            .request("PUT", &format!("/v2/a/b/manifests/{digest}"))
            .header("content-type", referrer["mediaType"].as_str().unwrap())
            .body(bytes)
            .send()
            .await
            .unwrap();
        assert_eq!(header(&response, "oci-subject"), subject.to_string());
        expected.push(descriptor);
    }
    expected.sort_by_key(|descriptor| descriptor["digest"].as_str().unwrap().to_owned());
    for size in 1..=8 {
        let pages = pages(&registry, &format!("{path}?n={size}"), "manifests").await;
        assert_eq!(pages.concat(), expected);
    }
    let wanted = "application/vnd.test.1+json";
    expected.retain(|descriptor| descriptor["artifactType"] == wanted);
    assert_eq!(expected.len(), 2);
    for size in 1..=8 {
        let filtered = format!("{path}?n={size}&artifactType=application/vnd.test.1%2Bjson");
        let response = registry.send("GET", &filtered).await;
        assert_eq!(header(&response, "oci-filters-applied"), "artifactType");
        assert_eq!(
            pages(&registry, &filtered, "manifests").await.concat(),
            expected
        );
    }
    let digest = expected[0]["digest"].as_str().unwrap();
    let removed = registry
        .send("DELETE", &format!("/v2/a/b/manifests/{digest}"))
        .await;
    assert_eq!(removed.status(), 202);
    let filtered = format!("{path}?artifactType={wanted}");
    assert_eq!(
        pages(&registry, &filtered, "manifests").await.concat(),
        expected[1..]
    );
}

#[tokio::test]
async fn page_of_referrers_is_no_larger_than_what_clients_read() {
    let registry = TestRegistry::memory().await;
    let config = registry.push("a/b", "{}").await;
    let subject = Digest::sha256(b"subject");
    for number in 0..5 {
        let mut referrer = image(&config, &[]);
        referrer["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
        // The last one is larger than a page.
        let length = if number == 4 { 5 << 20 } else { 3 << 19 };
        referrer["annotations"] = json!({ "x": format!("{number}{}", "a".repeat(length)) });
        registry
            .push_manifest("a/b", &format!("t{number}"), &referrer)
            .await;
    }
    let path = format!("/v2/a/b/referrers/{subject}");
    let pages = pages(&registry, &path, "manifests").await;
    assert_eq!(pages.concat().len(), 5);
    for page in pages {
        assert!(page.len() == 1 || json!(page).to_string().len() < 4 << 20);
    }
}

#[tokio::test]
async fn referrers_of_what_is_not_there_are_none() {
    let registry = TestRegistry::memory().await;
    let digest = Digest::sha256(b"absent");
    let response = registry
        .send("GET", &format!("/v2/never/referrers/{digest}"))
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.json::<Value>().await.unwrap()["manifests"],
        json!([])
    );
    for digest in ["x", "sha256:x", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        let response = registry
            .send("GET", &format!("/v2/a/referrers/{digest}"))
            .await;
        assert_error(response, 400, "DIGEST_INVALID").await;
    }
}
