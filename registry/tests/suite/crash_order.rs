//! Whatever the operation of the object store at which a process dies: what it leaves behind
//! reads as the old state or as the new one, and doing it again brings the new one about.

use deploy_registry::{
    Store, StoreError,
    store::{Condition, NewManifest},
};
use deploy_spec::{Algorithm, Digest, Reference};
use object_store::memory::InMemory;
use serde_json::json;

use crate::{
    faults::Faulty,
    harness::{MANIFEST, body, content, image, name, read, tag},
};

const REPOSITORY: &str = "a/b";

/// Does `work` on a store that dies at each operation in turn, on top of what `prepare` made.
/// After each death, `check` looks at what is left; then `work` is done again, and must succeed.
async fn die_everywhere(
    prepare: impl AsyncFn(&Store),
    work: impl AsyncFn(&Store) -> Result<(), StoreError>,
    check: impl AsyncFn(&Store, bool),
) {
    let before = InMemory::new();
    prepare(&Store::multipart(before.clone())).await;
    for after in [false, true] {
        for operations in 1.. {
            let left = before.fork();
            let faulty = Faulty::new(
                left.clone(),
                operations,
                after,
                std::io::ErrorKind::ConnectionReset,
            );
            let done = work(&Store::multipart(faulty.clone())).await;
            let store = Store::multipart(left);
            check(&store, done.is_ok()).await;
            if !faulty.has_failed() {
                done.unwrap();
                assert!(operations > 2, "nothing was tried");
                break;
            }
            work(&store).await.unwrap();
            check(&store, true).await;
            // Upkeep after the crash takes away nothing that is needed.
            store.expire_uploads(jiff::Timestamp::MAX).await.unwrap();
            check(&store, true).await;
        }
    }
}

async fn put_image(
    store: &Store,
    reference: &str,
    layer: &Digest,
    subject: Option<&Digest>,
) -> Result<Digest, StoreError> {
    let config = Digest::sha256(b"{}");
    let mut manifest = image(&config, &[layer]);
    if let Some(subject) = subject {
        manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
    }
    let new = NewManifest {
        reference: &reference.parse().unwrap(),
        tags: &[],
        content_type: None,
        bytes: serde_json::to_vec(&manifest).unwrap().into(),
        condition: Condition::None,
    };
    Ok(store.put_manifest(&name(REPOSITORY), new).await?.digest)
}

async fn put_layers(store: &Store) {
    for bytes in [&b"{}"[..], b"1", b"2"] {
        let digest = Digest::sha256(bytes);
        store
            .put_blob(&name(REPOSITORY), body(&[bytes]), &digest)
            .await
            .unwrap();
    }
}

/// Every tag leads to a manifest, the catalog names the repository where it has manifests, and
/// whatever is listed as a referrer is there.
async fn assert_consistent(store: &Store, subject: &Digest) {
    let repository = name(REPOSITORY);
    let tags = match store.tags(&repository, None, 100).await {
        Err(StoreError::RepositoryUnknown(_)) => return,
        page => page.unwrap().items,
    };
    for one in tags {
        store
            .manifest(&repository, &Reference::Tag(one))
            .await
            .unwrap();
    }
    let referrers = store
        .referrers(&repository, subject, None, None, 100)
        .await
        .unwrap();
    for referrer in referrers.manifests {
        store
            .manifest(&repository, &referrer.digest.into())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn blob_is_whole_or_absent_when_its_push_dies() {
    for size in [10, 100 * 1024, 11 * 1024 * 1024] {
        let bytes = content(size, 1);
        let digest = Digest::sha256(&bytes);
        let repository = name(REPOSITORY);
        die_everywhere(
            async |_| {},
            async |store| store.put_blob(&repository, body(&[&bytes]), &digest).await,
            async |store, done| match read(store, &repository, &digest).await {
                Ok(found) => assert!(found == bytes),
                Err(StoreError::BlobUnknown(_)) => assert!(!done),
                Err(error) => panic!("{error}"),
            },
        )
        .await;
    }
}

#[tokio::test]
async fn blob_is_whole_or_absent_when_its_upload_dies() {
    for size in [10, 100 * 1024, 11 * 1024 * 1024] {
        let bytes = content(size, 1);
        let (half, rest) = bytes.split_at(size / 2);
        let digest = Digest::sha256(&bytes);
        let repository = name(REPOSITORY);
        die_everywhere(
            async |_| {},
            async |store| {
                let upload = store.start_upload(&repository, Algorithm::Sha256).await?;
                store
                    .append_upload(&repository, &upload.id, None, body(&[half]))
                    .await?;
                store
                    .finish_upload(&repository, &upload.id, None, body(&[rest]), &digest)
                    .await
            },
            async |store, done| match read(store, &repository, &digest).await {
                Ok(found) => assert!(found == bytes),
                Err(StoreError::BlobUnknown(_)) => assert!(!done),
                Err(error) => panic!("{error}"),
            },
        )
        .await;
    }
}

#[tokio::test]
async fn tag_means_the_old_manifest_or_the_new_one_when_moving_it_dies() {
    let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
    let repository = name(REPOSITORY);
    let subject = Digest::sha256(b"subject");
    die_everywhere(
        async |store| {
            put_layers(store).await;
            put_image(store, "latest", &one, None).await.unwrap();
        },
        async |store| {
            put_image(store, "latest", &two, Some(&subject))
                .await
                .map(drop)
        },
        async |store, done| {
            assert_consistent(store, &subject).await;
            let found = store
                .manifest(&repository, &Reference::Tag(tag("latest")))
                .await
                .unwrap();
            let text = String::from_utf8(found.bytes.to_vec()).unwrap();
            assert!(text.contains(two.hex()) || (!done && text.contains(one.hex())));
            let referrers = store
                .referrers(&repository, &subject, None, None, 10)
                .await
                .unwrap();
            assert!(referrers.manifests.len() == 1 || !done);
        },
    )
    .await;
}

#[tokio::test]
async fn first_manifest_of_a_repository_is_there_with_its_tag_or_not_at_all() {
    let one = Digest::sha256(b"1");
    let repository = name(REPOSITORY);
    die_everywhere(
        async |store| put_layers(store).await,
        async |store| put_image(store, "v1", &one, None).await.map(drop),
        async |store, done| {
            assert_consistent(store, &one).await;
            if done {
                assert_eq!(
                    store.repositories(None, 10).await.unwrap().items,
                    std::slice::from_ref(&repository)
                );
                assert_eq!(
                    store.tags(&repository, None, 10).await.unwrap().items,
                    [tag("v1")]
                );
            }
        },
    )
    .await;
}

#[tokio::test]
async fn manifest_and_its_tags_go_together_when_deleting_dies() {
    let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
    let repository = name(REPOSITORY);
    let manifest =
        Digest::sha256(&serde_json::to_vec(&image(&Digest::sha256(b"{}"), &[&one])).unwrap());
    die_everywhere(
        async |store| {
            put_layers(store).await;
            for text in ["v1", "latest"] {
                put_image(store, text, &one, None).await.unwrap();
            }
            put_image(store, "v2", &two, None).await.unwrap();
        },
        async |store| match store.delete_manifest(&repository, &manifest).await {
            // The crash came behind the last thing that matters.
            Err(StoreError::ManifestUnknown(_)) => Ok(()),
            done => done,
        },
        async |store, done| {
            assert_consistent(store, &one).await;
            assert_eq!(
                store.repositories(None, 10).await.unwrap().items,
                std::slice::from_ref(&repository)
            );
            if done {
                assert_eq!(
                    store.tags(&repository, None, 10).await.unwrap().items,
                    [tag("v2")]
                );
            }
        },
    )
    .await;
}

/// The one that closes it, the one that cancels it and the one that lets it expire are of
/// different processes, and any of them may die.
#[tokio::test]
async fn blob_that_shows_is_whole_when_closing_and_cancelling_its_upload_die() {
    const ALL: usize = usize::MAX;
    let repository = name(REPOSITORY);
    for size in [100, 300 * 1024, 6 * 1024 * 1024] {
        let bytes = content(size, 1);
        let digest = Digest::sha256(&bytes);
        let before = InMemory::new();
        let store = Store::multipart(before.clone());
        let upload = store.start_upload(&repository, Algorithm::Sha256);
        let id = upload.await.unwrap().id;
        let append = store.append_upload(&repository, &id, None, body(&[&bytes]));
        append.await.unwrap();
        let deaths = |up_to| {
            (1..up_to)
                .chain([ALL])
                .flat_map(|left| [(left, false), (left, true)])
        };
        for (closing, cancelling) in
            deaths(10).flat_map(|closing| deaths(5).map(move |cancelling| (closing, cancelling)))
        {
            let left = before.fork();
            let dying = |(operations, after)| {
                let kind = std::io::ErrorKind::ConnectionReset;
                Store::multipart(Faulty::new(left.clone(), operations, after, kind))
            };
            let closed = dying(closing)
                .finish_upload(&repository, &id, None, body(&[]), &digest)
                .await;
            let _ = dying(cancelling).cancel_upload(&repository, &id).await;
            let store = Store::multipart(left.clone());
            store.expire_uploads(jiff::Timestamp::MAX).await.unwrap();
            match read(&store, &repository, &digest).await {
                Ok(found) => assert!(found == bytes),
                Err(StoreError::BlobUnknown(_)) => assert!(closed.is_err()),
                Err(error) => panic!("{size} bytes, {closing:?}, {cancelling:?}: {error}"),
            }
        }
    }
}
