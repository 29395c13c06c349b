//! Many at once: nothing is lost, nothing is torn.

use std::sync::Arc;

use deploy_registry::{
    StoreError,
    store::{Condition, NewManifest},
};
use deploy_spec::{Algorithm, Digest, Reference};
use futures::future::join_all;

use crate::{
    backends::everywhere,
    harness::{TestRegistry, body, content, header, image, name, read, tag},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_conditional_writers_move_a_tag_fifty_times() {
    let test = "fifty_conditional_writers_move_a_tag_fifty_times";
    for place in everywhere(test, 2).await {
        let stores = &place.stores;
        let store = &stores[0];
        let count = if place.is_remote { 10 } else { 50 };
        let repository = name("configs/web");
        let config = Digest::sha256(b"{}");
        store
            .put_blob(&repository, body(&[b"{}"]), &config)
            .await
            .unwrap();
        let reference = Arc::new(Reference::Tag(tag("latest")));
        let writers = (0..count).map(|writer| {
            let (store, repository, config, reference) = (
                stores[writer % stores.len()].clone(),
                repository.clone(),
                config.clone(),
                reference.clone(),
            );
            tokio::spawn(async move {
                loop {
                    let (parents, condition) = match store.manifest(&repository, &reference).await {
                        Ok(manifest) => {
                            let document: serde_json::Value =
                                serde_json::from_slice(&manifest.bytes).unwrap();
                            let parents = document["annotations"]["writers"]
                                .as_str()
                                .unwrap()
                                .to_owned();
                            (parents, Condition::OneOf(vec![manifest.digest]))
                        }
                        Err(StoreError::ManifestUnknown(_)) => (String::new(), Condition::Absent),
                        Err(error) => panic!("{error}"),
                    };
                    let mut manifest = image(&config, &[]);
                    manifest["annotations"] =
                        serde_json::json!({ "writers": format!("{parents}{writer} ") });
                    let new = NewManifest {
                        reference: &reference,
                        tags: &[],
                        content_type: None,
                        bytes: serde_json::to_vec(&manifest).unwrap().into(),
                        condition,
                    };
                    match store.put_manifest(&repository, new).await {
                        Ok(_) => break,
                        Err(StoreError::ConditionFailed { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        });
        join_all(writers)
            .await
            .into_iter()
            .for_each(|done| done.unwrap());
        let manifest = store.manifest(&repository, &reference).await.unwrap();
        let document: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
        let writers = document["annotations"]["writers"].as_str().unwrap();
        let mut seen: Vec<usize> = writers
            .split_whitespace()
            .map(|text| text.parse().unwrap())
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..count).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushers_of_one_digest_all_succeed() {
    for place in everywhere("pushers_of_one_digest_all_succeed", 2).await {
        let stores = &place.stores;
        for (seed, size) in [100, 200 * 1024, 6 * 1024 * 1024].into_iter().enumerate() {
            let bytes = content(size, seed as u64);
            let digest = Digest::sha256(&bytes);
            let pushers = (0..8).map(|pusher| {
                let store = stores[pusher % stores.len()].clone();
                let (bytes, digest) = (bytes.clone(), digest.clone());
                tokio::spawn(async move {
                    let repository = name(["a", "b"][pusher / 2 % 2]);
                    let pieces: Vec<&[u8]> = bytes.chunks(10_000).collect();
                    store
                        .put_blob(&repository, body(&pieces), &digest)
                        .await
                        .unwrap();
                    assert!(read(&store, &repository, &digest).await.unwrap() == bytes);
                })
            });
            join_all(pushers)
                .await
                .into_iter()
                .for_each(|done| done.unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_one_upload_do_not_tear_its_data() {
    for place in everywhere("writers_of_one_upload_do_not_tear_its_data", 2).await {
        let stores = &place.stores;
        let store = &stores[0];
        let repository = name("a");
        let chunk = content(100 * 1024, 1);
        let upload = store
            .start_upload(&repository, Algorithm::Sha256)
            .await
            .unwrap();
        let writers = (0..8).map(|writer| {
            let (store, repository, id, chunk) = (
                stores[writer % stores.len()].clone(),
                repository.clone(),
                upload.id.clone(),
                chunk.clone(),
            );
            tokio::spawn(async move {
                match store
                    .append_upload(&repository, &id, None, body(&[&chunk]))
                    .await
                {
                    Ok(_) => 1,
                    Err(StoreError::UploadBusy) => 0,
                    Err(error) => panic!("{error}"),
                }
            })
        });
        let written: usize = join_all(writers)
            .await
            .into_iter()
            .map(|done| done.unwrap())
            .sum();
        assert!(written >= 1);
        let whole = chunk.repeat(written);
        let digest = Digest::sha256(&whole);
        store
            .finish_upload(&repository, &upload.id, None, body(&[]), &digest)
            .await
            .unwrap();
        assert!(read(store, &repository, &digest).await.unwrap() == whole);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushing_and_deleting_one_manifest_leaves_no_tag_behind_that_leads_nowhere() {
    let test = "pushing_and_deleting_one_manifest_leaves_no_tag_behind_that_leads_nowhere";
    for place in everywhere(test, 1).await {
        let store = &place.stores[0];
        let repository = name("a");
        let config = Digest::sha256(b"{}");
        store
            .put_blob(&repository, body(&[b"{}"]), &config)
            .await
            .unwrap();
        let bytes = serde_json::to_vec(&image(&config, &[])).unwrap();
        let digest = Digest::sha256(&bytes);
        let rounds = if place.is_remote { 8 } else { 50 };
        for _ in 0..rounds {
            let new = NewManifest {
                reference: &Reference::Tag(tag("v1")),
                tags: &[],
                content_type: None,
                bytes: bytes.clone().into(),
                condition: Condition::None,
            };
            let (pushed, _) = tokio::join!(
                store.put_manifest(&repository, new),
                store.delete_manifest(&repository, &digest)
            );
            pushed.unwrap();
            let tagged = store.tag(&repository, &tag("v1")).await.unwrap().is_some();
            let there = store
                .manifest(&repository, &digest.clone().into())
                .await
                .is_ok();
            assert_eq!(tagged, there);
            let listed = store.repositories(None, 10).await.unwrap().items.len();
            assert_eq!(listed, usize::from(there));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_push_the_same_upload_get_an_answer_each() {
    let registry = TestRegistry::memory().await;
    let location = registry.begin("a").await;
    let requests = (0..8).map(|_| {
        registry
            .request("PATCH", &location)
            .body(vec![7; 1000])
            .send()
    });
    let mut accepted = 0;
    for response in join_all(requests).await {
        let response = response.unwrap();
        match response.status().as_u16() {
            202 => accepted += 1,
            409 => {}
            status => panic!("{status}"),
        }
    }
    let status = registry.send("GET", &location).await;
    assert_eq!(
        header(&status, "range"),
        format!("0-{}", accepted * 1000 - 1)
    );
}
