//! Which versions (`-maxver`) and releases (`--max-releases`) stay.

use deploy_registry::{
    Store,
    jobs::{Retained, Retention, retain},
    store::{Condition, Mode, NewManifest, Pace},
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

async fn retain_versions(store: &Store, newest: usize) -> (usize, usize) {
    let retention = Retention {
        versions: Some(newest),
        releases: None,
    };
    let done = retain(store, &retention, Mode::Do, &Pace::unbounded())
        .await
        .unwrap();
    (done.removed_tags.len(), done.kept_versions)
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

    let done = retain_versions(&store, 3).await;
    assert_eq!(
        tags(&store, "acme/components/web").await,
        ["n0", "n2", "n5", "n6", "n7"]
    );
    assert_eq!(tags(&store, "components/db").await, ["n5", "n6", "n7"]);
    assert_eq!(tags(&store, "components/web").await, ["n1", "n2", "n3"]);
    assert_eq!(tags(&store, "other/repository").await.len(), 8);
    assert_eq!(done, (3 + 5 + 1, 5 + 3 + 3));
    assert_eq!(retain_versions(&store, 3).await, (0, 11));

    // When the release goes, so do the versions that only it used.
    store
        .delete_tag(&name(configuration), &tag("v1"))
        .await
        .unwrap();
    store
        .delete_tag(&name(configuration), &tag("latest"))
        .await
        .unwrap();
    assert_eq!(retain_versions(&store, 3).await.0, 2);
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
    assert_eq!(retain_versions(&store, 1).await, (1, 1));
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
    retain_versions(&store, 1).await;
    assert_eq!(
        tags(&store, "components/web").await,
        ["n2".to_owned(), digest]
    );
}

async fn put_release(store: &Store, configuration: &str, number: usize, tags: &[&str]) {
    let config = put_blob(store, configuration, "{}").await;
    let layer = put_blob(store, configuration, &format!("{configuration} {number}")).await;
    let manifest = image(&config, &[&layer]);
    put(store, configuration, &format!("v{number}"), &manifest).await;
    for tag in tags {
        put(store, configuration, tag, &manifest).await;
    }
}

#[tokio::test]
async fn newest_releases_and_those_that_a_channel_means_stay() {
    let store = Store::memory();
    for number in 1..=12 {
        let tags: &[&str] = match number {
            2 => &["stable", "v007"],
            5 => &["canary"],
            12 => &["latest"],
            _ => &[],
        };
        put_release(&store, "acme/configs/site", number, tags).await;
        put_release(&store, "other", number, tags).await;
    }
    let retention = Retention {
        versions: None,
        releases: Some(3),
    };
    let before = tags(&store, "acme/configs/site").await;
    let planned = retain(&store, &retention, Mode::DryRun, &Pace::unbounded())
        .await
        .unwrap();
    assert_eq!(tags(&store, "acme/configs/site").await, before);
    let done = retain(&store, &retention, Mode::Do, &Pace::unbounded())
        .await
        .unwrap();
    assert_eq!(done, planned);
    assert_eq!((done.removed_tags.len(), done.kept_releases), (7, 5));
    // By number, not by name: v9 is older than v10.
    assert_eq!(
        tags(&store, "acme/configs/site").await,
        [
            "canary", "latest", "stable", "v007", "v10", "v11", "v12", "v2", "v5"
        ]
    );
    assert_eq!(tags(&store, "other").await.len(), 16);
    let again = retain(&store, &retention, Mode::Do, &Pace::unbounded())
        .await
        .unwrap();
    assert_eq!(
        again,
        Retained {
            kept_releases: 5,
            ..Retained::default()
        }
    );
}

#[tokio::test]
async fn versions_that_only_an_old_release_used_go_in_the_same_round() {
    let store = Store::memory();
    let mut layers = Vec::new();
    for number in 0..4 {
        layers.push(put_version(&store, "components/web", &format!("n{number}")).await);
    }
    let configuration = "configs/site";
    let config = put_blob(&store, configuration, "{}").await;
    for (number, layer) in layers.iter().enumerate().take(2) {
        store
            .mount_blob(&name(configuration), None, layer)
            .await
            .unwrap();
        let manifest = image(&config, &[layer]);
        put(
            &store,
            configuration,
            &format!("v{}", number + 1),
            &manifest,
        )
        .await;
    }
    let retention = Retention {
        versions: Some(1),
        releases: Some(1),
    };
    for mode in [Mode::DryRun, Mode::Do] {
        let done = retain(&store, &retention, mode, &Pace::unbounded())
            .await
            .unwrap();
        // `v1` goes, and with it `n0`; `n1` is in use by `v2`, and `n3` is the newest.
        assert_eq!(done.removed_tags.len(), 3);
        assert_eq!((done.kept_versions, done.kept_releases), (2, 1));
    }
    assert_eq!(tags(&store, "components/web").await, ["n1", "n3"]);
}
