//! What the store promises, on every backend that can run here.

use deploy_registry::{
    Store, StoreError,
    store::{Condition, NewManifest},
};
use deploy_spec::{Algorithm, Digest, Reference, range::ByteRange};
use futures::TryStreamExt as _;
use jiff::Timestamp;

use crate::{
    backends::contract,
    harness::{body, broken_body, content, image, name, read, tag},
};

const KIB: usize = 1024;
/// Around every limit that the store has: inline blobs, pieces of the local directory, parts
/// of multipart uploads.
const SIZES: [usize; 12] = [
    0,
    1,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    256 * KIB - 1,
    256 * KIB,
    256 * KIB + 1,
    5 * KIB * KIB - 1,
    5 * KIB * KIB,
    5 * KIB * KIB + 1,
    11 * KIB * KIB + 7,
];

fn unknown<T>(result: Result<T, StoreError>) -> bool {
    matches!(
        result,
        Err(StoreError::BlobUnknown(_)
            | StoreError::ManifestUnknown(_)
            | StoreError::RepositoryUnknown(_)
            | StoreError::UploadUnknown(_))
    )
}

async fn put(store: &Store, repository: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    store
        .put_blob(&name(repository), body(&[bytes]), &digest)
        .await
        .unwrap();
    digest
}

async fn put_image(store: &Store, repository: &str, reference: &str, layer: &[u8]) -> Digest {
    let config = put(store, repository, b"{}").await;
    let layer = put(store, repository, layer).await;
    let bytes = serde_json::to_vec(&image(&config, &[&layer])).unwrap();
    let new = NewManifest {
        reference: &reference.parse().unwrap(),
        tags: &[],
        content_type: None,
        bytes: bytes.into(),
        condition: Condition::None,
    };
    store
        .put_manifest(&name(repository), new)
        .await
        .unwrap()
        .digest
}

contract! {
    async fn blobs_of_every_size_come_back_whole_and_in_part(store: Store) {
        let repository = name("a/b");
        for (seed, size) in SIZES.into_iter().enumerate() {
            let bytes = content(size, seed as u64);
            for algorithm in Algorithm::ALL {
                let digest = Digest::of(algorithm, &bytes);
                let pieces: Vec<&[u8]> = bytes.chunks(100_000).collect();
                store.put_blob(&repository, body(&pieces), &digest).await.unwrap();
                let blob = store.blob(&repository, &digest).await.unwrap();
                assert_eq!(blob.size, size as u64);
                assert!(read(&store, &repository, &digest).await.unwrap() == bytes, "{size}");
                let (from, to) = (size / 3, size - size / 5);
                let part = store.read_blob(&blob, from as u64..to as u64).await.unwrap();
                let part: Vec<_> = part.try_collect().await.unwrap();
                assert!(part.concat() == bytes[from..to], "{size}");
            }
        }
    }

    async fn uploads_in_chunks_come_back_whole_with_either_digest(store: Store) {
        let repository = name("a/b");
        for (seed, size) in SIZES.into_iter().enumerate() {
            for (announced, used) in [
                (Algorithm::Sha256, Algorithm::Sha256),
                (Algorithm::Sha256, Algorithm::Sha512),
                (Algorithm::Sha512, Algorithm::Sha256),
            ] {
                let bytes = content(size, 100 + seed as u64);
                let digest = Digest::of(used, &bytes);
                let upload = store.start_upload(&repository, announced).await.unwrap();
                let mut offset = 0;
                // Chunks of odd and growing lengths; the last one comes with the digest.
                let chunks: Vec<&[u8]> = bytes.chunks(size / 3 + 1).collect();
                let (last, chunks) = match chunks.split_last() {
                    Some((last, chunks)) => (*last, chunks),
                    None => (&[][..], &[][..]),
                };
                for chunk in chunks {
                    let range = ByteRange { first: offset, last: offset + chunk.len() as u64 - 1 };
                    let upload = store.append_upload(&repository, &upload.id, Some(range), body(&[chunk])).await.unwrap();
                    offset += chunk.len() as u64;
                    assert_eq!(upload.offset, offset);
                    assert_eq!(store.upload(&repository, &upload.id).await.unwrap().offset, offset);
                }
                store.finish_upload(&repository, &upload.id, None, body(&[last]), &digest).await.unwrap();
                assert!(read(&store, &repository, &digest).await.unwrap() == bytes, "{size}");
                assert!(unknown(store.upload(&repository, &upload.id).await));
                store.delete_blob(&repository, &digest).await.unwrap();
            }
        }
    }

    async fn content_of_another_digest_is_refused_and_leaves_nothing(store: Store) {
        let repository = name("a/b");
        for size in [10, 100 * KIB, 6 * KIB * KIB] {
            let bytes = content(size, 1);
            for digest in [Digest::sha256(b"else"), Digest::of(Algorithm::Sha512, b"else")] {
                let refused = store.put_blob(&repository, body(&[&bytes]), &digest).await;
                assert!(matches!(refused, Err(StoreError::DigestMismatch { .. })));
                let upload = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
                store.append_upload(&repository, &upload.id, None, body(&[&bytes])).await.unwrap();
                let refused = store.finish_upload(&repository, &upload.id, None, body(&[]), &digest).await;
                assert!(matches!(refused, Err(StoreError::DigestMismatch { .. })));
                assert!(unknown(store.upload(&repository, &upload.id).await));
                assert!(unknown(store.blob(&repository, &digest).await));
                assert!(unknown(store.blob(&repository, &Digest::sha256(&bytes)).await));
            }
            // Nor does it open what another repository has.
            let secret = put(&store, "of/others", &content(size, 2)).await;
            let refused = store.put_blob(&repository, body(&[&bytes]), &secret).await;
            assert!(matches!(refused, Err(StoreError::DigestMismatch { .. })));
            assert!(unknown(store.blob(&repository, &secret).await));
            store.delete_blob(&name("of/others"), &secret).await.unwrap();
        }
    }

    async fn chunk_at_the_wrong_place_or_of_the_wrong_length_changes_nothing(store: Store) {
        let repository = name("a/b");
        let bytes = content(300 * KIB, 1);
        let (half, rest) = bytes.split_at(200 * KIB);
        let digest = Digest::sha256(&bytes);
        let upload = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
        store.append_upload(&repository, &upload.id, None, body(&[half])).await.unwrap();
        let offset = half.len() as u64;
        let end = bytes.len() as u64 - 1;
        for (first, last) in [(0, offset - 1), (offset + 1, end), (offset - 1, end)] {
            let range = Some(ByteRange { first, last });
            let refused = store.append_upload(&repository, &upload.id, range, body(&[rest])).await;
            assert!(matches!(refused, Err(StoreError::OutOfOrder { offset: at, given }) if at == offset && given == first));
            let refused = store.finish_upload(&repository, &upload.id, range, body(&[rest]), &digest).await;
            assert!(matches!(refused, Err(StoreError::OutOfOrder { .. })));
        }
        for last in [end - 1, end + 1] {
            let range = Some(ByteRange { first: offset, last });
            let refused = store.append_upload(&repository, &upload.id, range, body(&[rest])).await;
            assert!(matches!(refused, Err(StoreError::LengthMismatch { .. })), "{refused:?}");
            let refused = store.finish_upload(&repository, &upload.id, range, body(&[rest]), &digest).await;
            assert!(matches!(refused, Err(StoreError::LengthMismatch { .. })), "{refused:?}");
        }
        assert_eq!(store.upload(&repository, &upload.id).await.unwrap().offset, offset);
        let range = Some(ByteRange { first: offset, last: end });
        store.finish_upload(&repository, &upload.id, range, body(&[rest]), &digest).await.unwrap();
        assert!(read(&store, &repository, &digest).await.unwrap() == bytes);
    }

    async fn upload_that_broke_off_goes_on_where_it_stopped(store: Store) {
        let repository = name("a/b");
        for size in [100, 100 * KIB, 7 * KIB * KIB] {
            let bytes = content(size, 1);
            let digest = Digest::sha256(&bytes);
            let upload = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
            let broken = store.append_upload(&repository, &upload.id, None, broken_body(&[&bytes[..size / 2]])).await;
            assert!(matches!(broken, Err(StoreError::Body(_))));
            assert_eq!(store.upload(&repository, &upload.id).await.unwrap().offset, size as u64 / 2);
            // The closing request takes nothing over that broke off: clients send it anew.
            let broken = store.finish_upload(&repository, &upload.id, None, broken_body(&[&bytes[size / 2..size - 1]]), &digest).await;
            assert!(matches!(broken, Err(StoreError::Body(_))));
            assert_eq!(store.upload(&repository, &upload.id).await.unwrap().offset, size as u64 / 2);
            store.finish_upload(&repository, &upload.id, None, body(&[&bytes[size / 2..]]), &digest).await.unwrap();
            assert!(read(&store, &repository, &digest).await.unwrap() == bytes);
        }
    }

    async fn uploads_belong_to_their_repository_and_end(store: Store) {
        let repository = name("a/b");
        let upload = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
        assert!(unknown(store.upload(&name("a/c"), &upload.id).await));
        store.append_upload(&repository, &upload.id, None, body(&[&content(100 * KIB, 1)])).await.unwrap();
        store.cancel_upload(&repository, &upload.id).await.unwrap();
        assert!(unknown(store.upload(&repository, &upload.id).await));
        assert!(unknown(store.cancel_upload(&repository, &upload.id).await));
        let digest = Digest::sha256(b"");
        assert!(unknown(store.finish_upload(&repository, &upload.id, None, body(&[]), &digest).await));
    }

    async fn dead_uploads_expire_and_living_ones_do_not(store: Store) {
        let repository = name("a/b");
        let dead = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
        store.append_upload(&repository, &dead.id, None, body(&[&content(6 * KIB * KIB, 1)])).await.unwrap();
        let between = Timestamp::now();
        let living = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
        assert_eq!(store.expire_uploads(between).await.unwrap(), 1);
        assert!(unknown(store.upload(&repository, &dead.id).await));
        assert_eq!(store.upload(&repository, &living.id).await.unwrap(), living);
    }

    async fn blobs_are_seen_where_they_were_pushed_or_mounted(store: Store) {
        let (one, other, third) = (name("one"), name("other"), name("third"));
        let digest = put(&store, "one", b"content").await;
        assert!(unknown(store.blob(&other, &digest).await));
        assert!(!store.mount_blob(&other, Some(&third), &digest).await.unwrap());
        assert!(store.mount_blob(&other, Some(&one), &digest).await.unwrap());
        assert!(store.mount_blob(&third, None, &digest).await.unwrap());
        assert!(!store.mount_blob(&third, None, &Digest::sha256(b"else")).await.unwrap());
        store.delete_blob(&one, &digest).await.unwrap();
        assert!(unknown(store.blob(&one, &digest).await));
        assert!(unknown(store.delete_blob(&one, &digest).await));
        assert_eq!(read(&store, &other, &digest).await.unwrap(), b"content");
        assert_eq!(put(&store, "one", b"content").await, digest);
        assert_eq!(read(&store, &one, &digest).await.unwrap(), b"content");
    }

    async fn manifests_come_back_byte_for_byte_under_tag_and_digest(store: Store) {
        let repository = name("a/b");
        let config = put(&store, "a/b", b"{}").await;
        let bytes = format!(" {}\n", image(&config, &[]));
        let pushed = tag("v1");
        let new = NewManifest {
            reference: &Reference::Tag(pushed.clone()),
            tags: &[],
            content_type: Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
            bytes: bytes.clone().into(),
            condition: Condition::None,
        };
        let stored = store.put_manifest(&repository, new.clone()).await.unwrap();
        assert_eq!(stored.digest, Digest::sha256(bytes.as_bytes()));
        for reference in [Reference::Tag(pushed), Reference::Digest(stored.digest.clone())] {
            let manifest = store.manifest(&repository, &reference).await.unwrap();
            assert_eq!(manifest.bytes, bytes);
            assert_eq!(manifest.media_type, "application/vnd.oci.image.manifest.v1+json");
            let found = store.resolve(&repository, &reference).await.unwrap();
            assert_eq!((found.digest, found.size), (stored.digest.clone(), bytes.len() as u64));
        }
        assert!(unknown(store.manifest(&name("a/c"), &stored.digest.clone().into()).await));
        let long = Digest::of(Algorithm::Sha512, bytes.as_bytes());
        let new = NewManifest { reference: &long.clone().into(), tags: &[tag("x"), tag("y")], ..new };
        store.put_manifest(&repository, new).await.unwrap();
        assert_eq!(store.tag(&repository, &tag("y")).await.unwrap().unwrap().digest, long);
    }

    async fn conditions_decide_what_is_written(store: Store) {
        let repository = name("a/b");
        let one = put_image(&store, "a/b", "other", b"1").await;
        let two = put_image(&store, "a/b", "other", b"2").await;
        let channel = Reference::Tag(tag("latest"));
        let manifest = store.manifest(&repository, &one.clone().into()).await.unwrap();
        let next = store.manifest(&repository, &two.clone().into()).await.unwrap();
        let write = async |bytes: &bytes::Bytes, condition: Condition| {
            let new = NewManifest {
                reference: &channel,
                tags: &[],
                content_type: None,
                bytes: bytes.clone(),
                condition,
            };
            match store.put_manifest(&repository, new).await {
                Ok(stored) => Ok(stored.digest),
                Err(StoreError::ConditionFailed { current }) => Err(current),
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(write(&manifest.bytes, Condition::Present).await, Err(None));
        assert_eq!(write(&manifest.bytes, Condition::OneOf(vec![one.clone()])).await, Err(None));
        assert_eq!(write(&manifest.bytes, Condition::Absent).await, Ok(one.clone()));
        assert_eq!(write(&manifest.bytes, Condition::Absent).await, Err(Some(one.clone())));
        assert_eq!(write(&next.bytes, Condition::OneOf(vec![two.clone()])).await, Err(Some(one.clone())));
        assert_eq!(write(&next.bytes, Condition::NoneOf(vec![one.clone()])).await, Err(Some(one.clone())));
        assert_eq!(write(&next.bytes, Condition::OneOf(vec![two.clone(), one.clone()])).await, Ok(two.clone()));
        assert_eq!(write(&manifest.bytes, Condition::NoneOf(vec![one.clone()])).await, Ok(one.clone()));
        assert_eq!(write(&next.bytes, Condition::Present).await, Ok(two));
    }

    async fn deleting_a_manifest_takes_its_tags_along_and_deleting_a_tag_only_that(store: Store) {
        let repository = name("a/b");
        let one = put_image(&store, "a/b", "v1", b"1").await;
        put_image(&store, "a/b", "latest", b"1").await;
        let two = put_image(&store, "a/b", "v2", b"2").await;
        store.delete_tag(&repository, &tag("latest")).await.unwrap();
        assert!(unknown(store.delete_tag(&repository, &tag("latest")).await));
        assert!(store.manifest(&repository, &one.clone().into()).await.is_ok());
        store.delete_manifest(&repository, &one).await.unwrap();
        assert!(unknown(store.delete_manifest(&repository, &one).await));
        assert!(unknown(store.manifest(&repository, &one.into()).await));
        assert_eq!(store.tags(&repository, None, 10).await.unwrap().items, [tag("v2")]);
        assert_eq!(store.repositories(None, 10).await.unwrap().items, std::slice::from_ref(&repository));
        store.delete_manifest(&repository, &two).await.unwrap();
        assert!(unknown(store.tags(&repository, None, 10).await));
        assert_eq!(store.repositories(None, 10).await.unwrap().items, []);
    }

    async fn listings_come_in_order_and_in_pages(store: Store) {
        let names = ["a", "a-b", "a.b", "a/b", "a/b/c", "a0", "a_b", "ab"];
        for repository in names.iter().rev() {
            put_image(&store, repository, "v1", b"1").await;
        }
        let mut listed = Vec::new();
        let mut last = None;
        loop {
            let page = store.repositories(last.as_ref(), 3).await.unwrap();
            last = page.items.last().cloned();
            assert!(page.items.len() == 3 || !page.more);
            listed.extend(page.items.iter().map(ToString::to_string));
            if !page.more {
                break;
            }
        }
        assert_eq!(listed, names);
        let repository = name("a/b");
        for text in ["v10", "V1", "_x", "v1.0", "v1-0"] {
            put_image(&store, "a/b", text, b"1").await;
        }
        let page = store.tags(&repository, None, 3).await.unwrap();
        assert_eq!((page.items, page.more), (vec![tag("V1"), tag("_x"), tag("v1")], true));
        let page = store.tags(&repository, Some(&tag("v1")), 3).await.unwrap();
        assert_eq!((page.items, page.more), (vec![tag("v1-0"), tag("v1.0"), tag("v10")], false));
        let page = store.tags(&repository, Some(&tag("absent")), 0).await.unwrap();
        assert_eq!((page.items, page.more), (vec![], true));
    }

    async fn tag_watch_wakes_for_every_kind_of_change(store: Store) {
        let repository = name("a/b");
        let mut watch = store.watch_tag(&repository, &tag("latest"));
        put_image(&store, "a/b", "latest", b"1").await;
        watch.changed().await;
        put_image(&store, "a/b", "latest", b"2").await;
        watch.changed().await;
        store.delete_tag(&repository, &tag("latest")).await.unwrap();
        watch.changed().await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let bytes = content(300 * KIB, 1);
    let digest = put(&store, "a/b", &bytes).await;
    let manifest = put_image(&store, "a/b", "v1", b"1").await;
    let upload = store
        .start_upload(&name("a/b"), Algorithm::Sha256)
        .await
        .unwrap();
    store
        .append_upload(&name("a/b"), &upload.id, None, body(&[&bytes[..200 * KIB]]))
        .await
        .unwrap();
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    assert!(read(&store, &name("a/b"), &digest).await.unwrap() == bytes);
    assert_eq!(
        store
            .tag(&name("a/b"), &tag("v1"))
            .await
            .unwrap()
            .unwrap()
            .digest,
        manifest
    );
    store.delete_blob(&name("a/b"), &digest).await.unwrap();
    store
        .finish_upload(
            &name("a/b"),
            &upload.id,
            None,
            body(&[&bytes[200 * KIB..]]),
            &digest,
        )
        .await
        .unwrap();
    assert!(read(&store, &name("a/b"), &digest).await.unwrap() == bytes);
}

#[tokio::test]
async fn second_store_on_a_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let refused = Store::open(directory.path()).unwrap_err();
    let expected = format!(
        "directory `{}` is in use by process {}",
        directory.path().canonicalize().unwrap().display(),
        std::process::id()
    );
    assert_eq!(refused.to_string(), expected);
    drop(store);
    Store::open(directory.path()).unwrap();
}

#[tokio::test]
async fn damaged_blob_is_reported_and_mended_by_the_next_push() {
    let directory = tempfile::tempdir().unwrap();
    let repository = name("a/b");
    for size in [100, 100 * KIB] {
        let bytes = content(size, 1);
        let store = Store::open(directory.path()).unwrap();
        let digest = put(&store, "a/b", &bytes).await;
        // Nothing shall be left that would mend it.
        store.settle().await.unwrap();
        drop(store);
        let record = directory.path().join(format!(
            "blobs/sha256/{}/{}",
            &digest.hex()[..2],
            digest.hex()
        ));
        match size {
            100 => std::fs::write(&record, "").unwrap(),
            _ => std::fs::remove_dir_all(directory.path().join("data")).unwrap(),
        }
        let store = Store::open(directory.path()).unwrap();
        assert!(matches!(
            read(&store, &repository, &digest).await,
            Err(StoreError::Damaged { .. })
        ));
        put(&store, "a/b", &bytes).await;
        assert!(read(&store, &repository, &digest).await.unwrap() == bytes);
    }
}

#[tokio::test]
async fn pushing_the_same_blob_again_stores_it_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let bytes = content(100 * KIB, 1);
    for repository in ["a", "b", "a"] {
        put(&store, repository, &bytes).await;
    }
    let files = |path: &str| -> usize {
        let top = std::fs::read_dir(directory.path().join(path)).unwrap();
        top.map(|entry| std::fs::read_dir(entry.unwrap().path()).unwrap().count())
            .sum()
    };
    assert_eq!((files("data"), files("blobs/sha256")), (1, 1));
    assert_eq!(
        std::fs::read_dir(directory.path().join(".staging"))
            .unwrap()
            .count(),
        0
    );
}
