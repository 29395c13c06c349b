//! Which versions stay (`-maxver`).

use deploy_registry::{
    Store,
    jobs::{Retained, retain_versions},
    store::{Condition, NewManifest},
};
use deploy_spec::{Digest, annotation};
use serde_json::{Value, json};

use crate::harness::{body, image, name, tag};

async fn put(store: &Store, repository: &str, reference: &str, manifest: &Value) {
    let new = NewManifest {
        reference: &reference.parse().unwrap(),
        tags: &[],
        content_type: None,
        bytes: manifest.to_string().into(),
        condition: Condition::None,
    };
    store.put_manifest(&name(repository), new).await.unwrap();
}

async fn put_blob(store: &Store, repository: &str, text: &str) -> Digest {
    let digest = Digest::sha256(text.as_bytes());
    store
        .put_blob(&name(repository), body(&[text.as_bytes()]), &digest)
        .await
        .unwrap();
    digest
}

/// One version of a component, of content that no other one has.
async fn put_version(store: &Store, repository: &str, version: &str) -> Digest {
    let config = put_blob(store, repository, "{}").await;
    let layer = put_blob(store, repository, &format!("{repository} {version}")).await;
    put(store, repository, version, &image(&config, &[&layer])).await;
    layer
}

async fn tags(store: &Store, repository: &str) -> Vec<String> {
    let page = store.tags(&name(repository), None, 100).await;
    page.map_or(Vec::new(), |page| {
        page.items.iter().map(ToString::to_string).collect()
    })
}

#[tokio::test]
async fn newest_versions_and_those_in_use_stay() {
    let store = Store::memory();
    let mut layers = Vec::new();
    for number in 0..8 {
        layers.push(put_version(&store, "acme/components/web", &format!("n{number}")).await);
        put_version(&store, "components/db", &format!("n{number}")).await;
        put_version(&store, "other/repository", &format!("n{number}")).await;
    }
    // A release uses one version by name, and another one by content alone, within an index.
    let configuration = "acme/configs/site";
    let config = put_blob(&store, configuration, "{}").await;
    for layer in &layers {
        store
            .mount_blob(&name(configuration), None, layer)
            .await
            .unwrap();
    }
    let mut named = image(&config, &[&layers[7]]);
    named["layers"][0]["annotations"] = json!({
        annotation::COMPONENT: "web",
        annotation::COMPONENT_VERSION: "n0",
    });
    put(&store, configuration, "v1", &named).await;
    let child = image(&config, &[&layers[2]]);
    let digest = Digest::sha256(child.to_string().as_bytes());
    put(&store, configuration, &digest.to_string(), &child).await;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{ "mediaType": child["mediaType"], "digest": digest, "size": 1 }],
    });
    put(&store, configuration, "latest", &index).await;
    // A component of the same name under another prefix is not meant.
    put_version(&store, "components/web", "n0").await;
    put_version(&store, "components/web", "n1").await;
    put_version(&store, "components/web", "n2").await;
    put_version(&store, "components/web", "n3").await;

    let done = retain_versions(&store, 3).await.unwrap();
    assert_eq!(
        tags(&store, "acme/components/web").await,
        ["n0", "n2", "n5", "n6", "n7"]
    );
    assert_eq!(tags(&store, "components/db").await, ["n5", "n6", "n7"]);
    assert_eq!(tags(&store, "components/web").await, ["n1", "n2", "n3"]);
    assert_eq!(tags(&store, "other/repository").await.len(), 8);
    assert_eq!(
        done,
        Retained {
            removed: 3 + 5 + 1,
            kept: 5 + 3 + 3
        }
    );
    assert_eq!(
        retain_versions(&store, 3).await.unwrap(),
        Retained {
            removed: 0,
            kept: 11
        }
    );

    // When the release goes, so do the versions that only it used.
    store
        .delete_tag(&name(configuration), &tag("v1"))
        .await
        .unwrap();
    store
        .delete_tag(&name(configuration), &tag("latest"))
        .await
        .unwrap();
    assert_eq!(retain_versions(&store, 3).await.unwrap().removed, 2);
    assert_eq!(
        tags(&store, "acme/components/web").await,
        ["n5", "n6", "n7"]
    );
}

#[tokio::test]
async fn manifest_that_two_versions_share_stays_with_either() {
    let store = Store::memory();
    put_version(&store, "components/web", "n0").await;
    let manifest = store
        .manifest(&name("components/web"), &"n0".parse().unwrap())
        .await
        .unwrap();
    let document: Value = serde_json::from_slice(&manifest.bytes).unwrap();
    put(&store, "components/web", "n1", &document).await;
    assert_eq!(
        retain_versions(&store, 1).await.unwrap(),
        Retained {
            removed: 1,
            kept: 1
        }
    );
    assert!(
        store
            .manifest(&name("components/web"), &"n1".parse().unwrap())
            .await
            .is_ok()
    );
    assert_eq!(tags(&store, "components/web").await, ["n1"]);
}

#[tokio::test]
async fn tags_that_list_referrers_are_no_versions() {
    let store = Store::memory();
    let digest = Digest::sha256(b"x").file_name();
    put_version(&store, "components/web", &digest).await;
    put_version(&store, "components/web", "n1").await;
    put_version(&store, "components/web", "n2").await;
    retain_versions(&store, 1).await.unwrap();
    assert_eq!(
        tags(&store, "components/web").await,
        ["n2".to_owned(), digest]
    );
}
