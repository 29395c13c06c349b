//! The audit log over a real connection: what is written down of what clients do, and how it is read.

use deploy_registry::{Audit, Mode, ServerSettings, Store};
use deploy_spec::Digest;
use serde_json::{Value, json};

use crate::{
    counting::Counting,
    harness::{TestRegistry, assert_error, header, image},
};

fn settings() -> ServerSettings {
    ServerSettings {
        audit: Audit::Kept,
        ..ServerSettings::default()
    }
}

async fn start(store: Store) -> TestRegistry {
    TestRegistry::with(store, settings()).await
}

async fn entries(registry: &TestRegistry, query: &str) -> Vec<Value> {
    let path = format!("/v2/_deploytools/audit{query}");
    let response = registry.send("GET", &path).await;
    assert_eq!(response.status(), 200);
    let page: Value = response.json().await.unwrap();
    page["entries"].as_array().unwrap().clone()
}

/// What a line says of a change.
fn change(entry: &Value) -> Value {
    json!([
        entry["action"],
        entry["repository"],
        entry["reference"],
        entry["before"],
        entry["after"]
    ])
}

#[tokio::test]
async fn every_change_has_a_line_with_what_was_before_and_what_is_after() {
    let registry = start(Store::memory()).await;
    let config = registry.push("a", "{}").await;
    let layer = registry.push("a", "layer").await;
    let push = async |tag: &str, layers: &[&Digest]| {
        (registry.push_manifest("a", tag, &image(&config, layers))).await
    };
    let one = push("v1", &[]).await;
    let two = push("v1", &[&layer]).await;
    // Nothing changes.
    push("v1", &[&layer]).await;
    push("latest", &[&layer]).await;
    let delete = async |path: String| {
        let response = registry.send("DELETE", &format!("/v2/a/{path}")).await;
        assert_eq!(response.status(), 202);
    };
    delete("manifests/latest".to_owned()).await;
    delete(format!("manifests/{two}")).await;
    delete(format!("blobs/{layer}")).await;
    let mounted = format!("/v2/b/blobs/uploads/?mount={config}&from=a");
    assert_eq!(registry.send("POST", &mounted).await.status(), 201);
    let lines = entries(&registry, "").await;
    let expected = [
        json!(["blob.put", "a", config, null, config]),
        json!(["blob.put", "a", layer, null, layer]),
        json!(["manifest.put", "a", one, null, one]),
        json!(["tag.move", "a", "v1", null, one]),
        json!(["manifest.put", "a", two, null, two]),
        json!(["tag.move", "a", "v1", one, two]),
        json!(["tag.move", "a", "latest", null, two]),
        json!(["tag.delete", "a", "latest", two, null]),
        json!(["tag.delete", "a", "v1", two, null]),
        json!(["manifest.delete", "a", two, two, null]),
        json!(["blob.delete", "a", layer, layer, null]),
        json!(["blob.put", "b", config, null, config]),
    ];
    assert_eq!(lines.iter().map(change).collect::<Vec<_>>(), expected);
    for line in &lines {
        assert_eq!(line["actor"], json!({ "kind": "anonymous" }));
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert_eq!(line["request"].as_str().unwrap().len(), 16);
    }
    assert!(lines.is_sorted_by_key(|line| line["time"].as_str().unwrap().to_owned()));
    let of_b = entries(&registry, "?repository=b").await;
    assert_eq!(of_b, lines[11..]);
}

#[tokio::test]
async fn what_failed_has_no_line() {
    let registry = start(Store::memory()).await;
    let absent = Digest::sha256(b"absent");
    for path in [
        "manifests/v1",
        &format!("manifests/{absent}"),
        &format!("blobs/{absent}"),
    ] {
        let response = registry.send("DELETE", &format!("/v2/a/{path}")).await;
        assert_eq!(response.status(), 404);
    }
    let path = format!("/v2/a/blobs/uploads/?digest={absent}");
    let response = registry.request("POST", &path).body("other").send().await;
    assert_eq!(response.unwrap().status(), 400);
    let missing = serde_json::to_vec(&image(&absent, &[])).unwrap();
    let response = registry.request("PUT", "/v2/a/manifests/v1").body(missing);
    assert!(response.send().await.unwrap().status().is_client_error());
    assert_eq!(entries(&registry, "").await, [Value::Null; 0]);
}

#[tokio::test]
async fn pages_lead_through_all_lines_and_parameters_are_checked() {
    let registry = start(Store::memory()).await;
    for number in 0..10 {
        registry.push("a", number.to_string()).await;
    }
    let all = entries(&registry, "").await;
    assert_eq!(all.len(), 10);
    let mut path = "/v2/_deploytools/audit?n=3&since=2026-01-01T00:00:00Z".to_owned();
    let mut found = Vec::new();
    loop {
        let response = registry.send("GET", &path).await;
        assert_eq!(response.status(), 200, "{path}");
        let next = deploy_spec::listing::parse_next_link(header(&response, "link"));
        let next = next.map(str::to_owned);
        let page: Value = response.json().await.unwrap();
        let entries = page["entries"].as_array().unwrap();
        assert!(entries.len() <= 3);
        found.extend(entries.iter().cloned());
        match next {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!(found, all);
    assert_eq!(
        entries(&registry, "?until=2001-01-01T00:00:00Z").await,
        [Value::Null; 0]
    );
    for bad in ["since=x", "until=1", "n=-1", "last=x", "repository=A"] {
        let path = format!("/v2/_deploytools/audit?{bad}");
        assert_error(registry.send("GET", &path).await, 400, "UNSUPPORTED").await;
    }
    let response = registry.send("DELETE", "/v2/_deploytools/audit").await;
    assert_error(response, 405, "UNSUPPORTED").await;
    let response = registry.send("GET", "/v2/_oci/ext/discover").await;
    let extensions: Value = response.json().await.unwrap();
    assert_eq!(
        extensions["extensions"][0]["endpoints"],
        json!(["/v2/_deploytools/audit"])
    );
}

/// Whatever is pushed, the backend is asked for no more than one object now and then.
#[tokio::test]
async fn lines_of_many_requests_are_written_together() {
    const PUSHES: usize = 200;
    let counting = Counting::default();
    let registry = start(Store::multipart(counting.clone())).await;
    for number in 0..PUSHES {
        registry.push("a", number.to_string()).await;
    }
    registry.stop().await.unwrap();
    let counts = counting.take();
    let writes = counts
        .split(", ")
        .find_map(|count| count.strip_suffix(" create audit"));
    let writes: usize = writes.unwrap().parse().unwrap();
    assert!(writes < PUSHES / 4, "{counts}");
    assert!(
        counts.contains(&format!("{PUSHES} create blobs")),
        "{counts}"
    );
    // Another process reads them.
    let other = start(Store::multipart(counting)).await;
    assert_eq!(entries(&other, "").await.len(), PUSHES);
}

#[tokio::test]
async fn a_registry_that_may_change_nothing_writes_nothing_down() {
    let counting = Counting::default();
    let settings = ServerSettings {
        mode: Mode::ReadOnly,
        ..settings()
    };
    let registry = TestRegistry::with(Store::multipart(counting.clone()), settings).await;
    let response = registry.send("DELETE", "/v2/a/manifests/v1").await;
    assert_error(response, 405, "UNSUPPORTED").await;
    assert_eq!(entries(&registry, "").await, [Value::Null; 0]);
    registry.stop().await.unwrap();
    assert_eq!(counting.keys().await, [""; 0]);
}
