//! One layout everywhere: whoever copies a directory into a bucket, or a bucket into a directory, moves a registry.

use std::sync::Arc;

use deploy_registry::{
    Store,
    store::{Condition, NewManifest},
};
use deploy_spec::{Digest, Reference, RepositoryName};
use futures::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, local::LocalFileSystem, memory::InMemory};

use crate::{
    backends::place_on_minio,
    harness::{body, content, image, name, read, tag},
};

const SIZES: [usize; 4] = [0, 100, 100_000, 6_000_000];

async fn fill(store: &Store) {
    for repository in ["a-b/c.d", "e"] {
        let repository = name(repository);
        for (seed, size) in SIZES.into_iter().enumerate() {
            let bytes = content(size, seed as u64);
            let digest = Digest::sha256(&bytes);
            store
                .put_blob(&repository, body(&[&bytes]), &digest)
                .await
                .unwrap();
            let subject = put(store, &repository, &format!("v{seed}"), image(&digest, &[])).await;
            let mut referrer = image(&digest, &[&digest]);
            referrer["subject"] = serde_json::json!({
                "mediaType": crate::harness::MANIFEST, "digest": subject, "size": 1
            });
            put(store, &repository, &format!("signature-{seed}"), referrer).await;
        }
    }
}

async fn put(
    store: &Store,
    repository: &RepositoryName,
    reference: &str,
    manifest: serde_json::Value,
) -> Digest {
    let new = NewManifest {
        reference: &reference.parse().unwrap(),
        tags: &[],
        content_type: None,
        bytes: serde_json::to_vec(&manifest).unwrap().into(),
        condition: Condition::None,
    };
    store.put_manifest(repository, new).await.unwrap().digest
}

/// Everything that clients can see.
async fn picture(store: &Store) -> Vec<String> {
    let mut seen = Vec::new();
    for repository in store.repositories(None, 100).await.unwrap().items {
        for tag in store.tags(&repository, None, 100).await.unwrap().items {
            let reference = Reference::Tag(tag.clone());
            let manifest = store.manifest(&repository, &reference).await.unwrap();
            let referrers = store.referrers(&repository, &manifest.digest, None, None, 10);
            let referrers = referrers.await.unwrap().manifests.len();
            let digest = &manifest.digest;
            seen.push(format!("{repository}:{tag} {digest} {referrers}"));
        }
        for (seed, size) in SIZES.into_iter().enumerate() {
            let bytes = content(size, seed as u64);
            let found = read(store, &repository, &Digest::sha256(&bytes))
                .await
                .unwrap();
            assert!(found == bytes);
        }
    }
    seen
}

/// As `cp -r` and the clouds' own programs do: every object under its key, nothing else.
async fn copy(from: &dyn ObjectStore, to: &dyn ObjectStore) {
    let objects: Vec<_> = from.list(None).try_collect().await.unwrap();
    for object in objects {
        if object.location.as_ref().starts_with('.') {
            continue;
        }
        let bytes = from
            .get(&object.location)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        to.put(&object.location, bytes.into()).await.unwrap();
    }
}

#[tokio::test]
async fn directory_becomes_a_bucket_and_a_bucket_a_directory() {
    let mut buckets: Vec<(Arc<dyn ObjectStore>, Store)> = Vec::new();
    let memory = InMemory::new();
    buckets.push((Arc::new(memory.clone()), Store::multipart(memory)));
    let test = "directory_becomes_a_bucket_and_a_bucket_a_directory_on_minio";
    if let Some(place) = place_on_minio(test) {
        buckets.push((place.raw(), place.store().await));
    }

    let first = tempfile::tempdir().unwrap();
    let store = Store::open(first.path()).unwrap();
    fill(&store).await;
    let expected = picture(&store).await;
    assert_eq!(expected.len(), 2 * 2 * SIZES.len());
    drop(store);
    let files = LocalFileSystem::new_with_prefix(first.path()).unwrap();
    for (raw, bucket) in buckets {
        copy(&files, &*raw).await;
        assert_eq!(picture(&bucket).await, expected);
        // It goes on being one.
        fill(&bucket).await;
        put(&bucket, &name("e"), "new", image(&Digest::sha256(b""), &[])).await;
        let expected = picture(&bucket).await;
        let second = tempfile::tempdir().unwrap();
        copy(
            &*raw,
            &LocalFileSystem::new_with_prefix(second.path()).unwrap(),
        )
        .await;
        let store = Store::open(second.path()).unwrap();
        assert_eq!(picture(&store).await, expected);
        fill(&store).await;
        store.delete_tag(&name("e"), &tag("new")).await.unwrap();
    }
}
