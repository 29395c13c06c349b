//! How many requests of an object store each thing costs: as few as it can be done with, listed in the README, and
//! none more from one release to the next without anybody noticing.

use deploy_registry::{
    Store,
    store::{Condition, NewManifest},
};
use deploy_spec::{Algorithm, Digest, Reference};

use crate::{
    counting::Counting,
    harness::{body, content, image, name, read, tag},
};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn blob_in_one_request() {
    let counting = Counting::default();
    let store = Store::multipart(counting.clone());
    let table = [
        (60_000, "1 create _blobs, 1 create blobs"),
        (MIB, "1 create _blobs, 1 create blobs, 1 put data"),
        (
            12 * MIB,
            "1 begin data, 1 complete data, 1 create _blobs, 1 create blobs, 3 part data",
        ),
    ];
    for (size, expected) in table {
        let bytes = content(size, 1);
        let digest = Digest::sha256(&bytes);
        store
            .put_blob(&name("a"), body(&[&bytes]), &digest)
            .await
            .unwrap();
        assert_eq!(counting.take(), expected, "{size}");
        assert!(counting.take_bytes() < size + 1000, "{size}");
    }
}

/// As docker, podman, crane and most others push: POST, one PATCH, PUT.
#[tokio::test]
async fn blob_in_post_patch_put() {
    let counting = Counting::default();
    let store = Store::multipart(counting.clone());
    let repository = name("a");
    let table = [
        (
            60_000,
            "1 get uploads, 1 update uploads",
            "1 create _blobs, 1 create blobs, 1 delete uploads, 1 get uploads",
        ),
        (
            MIB,
            "1 get uploads, 1 put data, 1 update uploads",
            "1 create _blobs, 1 create blobs, 1 delete uploads, 1 get uploads, 1 update uploads",
        ),
        (
            12 * MIB,
            "1 begin data, 1 get uploads, 2 part data, 1 put data, 1 update uploads",
            "1 complete data, 1 create _blobs, 1 create blobs, 1 delete data, 1 delete uploads, \
             1 get data, 1 get uploads, 1 part data, 1 update uploads",
        ),
    ];
    for (size, patch, put) in table {
        let bytes = content(size, 1);
        let digest = Digest::sha256(&bytes);
        let upload = store
            .start_upload(&repository, Algorithm::Sha256)
            .await
            .unwrap();
        assert_eq!(counting.take(), "1 create uploads");
        let append = store.append_upload(&repository, &upload.id, None, body(&[&bytes]));
        append.await.unwrap();
        assert_eq!(counting.take(), patch, "{size}");
        let finish = store.finish_upload(&repository, &upload.id, None, body(&[]), &digest);
        finish.await.unwrap();
        assert_eq!(counting.take(), put, "{size}");
        assert!(read(&store, &repository, &digest).await.unwrap() == bytes);
        counting.take();
        let expected = if size > 5 * MIB { size + 2 * MIB } else { size };
        assert!(counting.take_bytes() < expected + 65_000, "{size}");
        assert!(
            !counting
                .keys()
                .await
                .iter()
                .any(|key| key.starts_with("uploads/"))
        );
    }
    let keys = counting.keys().await;
    assert_eq!(
        keys.iter().filter(|key| key.starts_with("data/")).count(),
        2,
        "{keys:?}"
    );
}

/// However small the chunks are, a byte is written three times at most, and what a chunk costs does not grow.
#[tokio::test]
async fn blob_in_many_small_chunks() {
    let counting = Counting::default();
    let store = Store::multipart(counting.clone());
    let repository = name("a");
    let bytes = content(6 * MIB, 1);
    for chunk in [10_000, 100_000, MIB] {
        let upload = store
            .start_upload(&repository, Algorithm::Sha256)
            .await
            .unwrap();
        counting.take_bytes();
        for piece in bytes.chunks(chunk) {
            let append = store.append_upload(&repository, &upload.id, None, body(&[piece]));
            append.await.unwrap();
            let requests = counting.take();
            let many = requests.contains("get data");
            assert!(many || requests.len() < 80, "{requests}");
        }
        let digest = Digest::sha256(&bytes);
        let finish = store.finish_upload(&repository, &upload.id, None, body(&[]), &digest);
        finish.await.unwrap();
        assert!(read(&store, &repository, &digest).await.unwrap() == bytes);
        // Chunks below 64 KiB are collected in the session's object, which is written with each.
        let times = if chunk < 65_536 { 9 } else { 3 };
        let written = counting.take_bytes();
        assert!(written < times * bytes.len(), "{chunk}: {written}");
        store.delete_blob(&repository, &digest).await.unwrap();
        counting.take();
    }
}

#[tokio::test]
async fn manifests_and_blobs_are_read() {
    let counting = Counting::default();
    let store = Store::multipart(counting.clone());
    let repository = name("a");
    let config = Digest::sha256(b"{}");
    store
        .put_blob(&repository, body(&[b"{}"]), &config)
        .await
        .unwrap();
    let bytes = content(MIB, 1);
    let layer = Digest::sha256(&bytes);
    store
        .put_blob(&repository, body(&[&bytes]), &layer)
        .await
        .unwrap();
    counting.take();
    let manifest = serde_json::to_vec(&image(&config, &[&layer])).unwrap();
    let by_tag = Reference::Tag(tag("v1"));
    let new = NewManifest {
        reference: &by_tag,
        tags: &[],
        content_type: None,
        bytes: manifest.into(),
        condition: Condition::None,
    };
    let stored = store.put_manifest(&repository, new).await.unwrap();
    println_counts("PUT manifest", &counting.take());
    store.manifest(&repository, &by_tag).await.unwrap();
    assert_eq!(counting.take(), "1 get _manifests, 1 get _tags");
    store
        .manifest(&repository, &stored.digest.clone().into())
        .await
        .unwrap();
    assert_eq!(counting.take(), "1 get _manifests");
    store.resolve(&repository, &by_tag).await.unwrap();
    assert_eq!(counting.take(), "1 get _tags");
    read(&store, &repository, &config).await.unwrap();
    assert_eq!(counting.take(), "1 get blobs, 1 head _blobs");
    read(&store, &repository, &layer).await.unwrap();
    assert_eq!(counting.take(), "1 get blobs, 1 get data, 1 head _blobs");
    store.tags(&repository, None, 100).await.unwrap();
    assert_eq!(counting.take(), "1 list _tags");
}

fn println_counts(_what: &str, _counts: &str) {}
