//! Several stores over one place, as processes over one bucket: whichever is asked, it answers as any other.

use std::time::Duration;

use deploy_registry::{
    Store, StoreError,
    store::{Condition, NewManifest},
};
use deploy_spec::{Algorithm, Digest, Reference, range::ByteRange};
use futures::future::join_all;
use jiff::Timestamp;

use crate::{
    backends::{Replicas, in_memory, on_azurite, on_minio},
    counting::Counting,
    harness::{body, broken_body, content, image, name, read, tag},
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every place that takes several processes, with three each.
async fn shared_places(test: &str) -> Vec<Replicas> {
    let places = [
        Some(in_memory(3)),
        on_minio(&format!("{test}_on_minio"), 3).await,
        on_azurite(&format!("{test}_on_azurite"), 3).await,
    ];
    places.into_iter().flatten().collect()
}

#[tokio::test]
async fn upload_goes_from_replica_to_replica() {
    for place in shared_places("upload_goes_from_replica_to_replica").await {
        let stores = &place.stores;
        let repository = name("a/b");
        // From what fits into the session to many parts, in chunks that fit into none of the limits.
        for (size, chunk) in [
            (10, 3),
            (100 * KIB, 30_000),
            (300 * KIB, 90_000),
            (3 * MIB, 700_000),
            (11 * MIB, 3_000_000),
            (17 * MIB, 6 * MIB),
        ] {
            let bytes = content(size, size as u64);
            let digest = Digest::sha256(&bytes);
            let upload = stores[0]
                .start_upload(&repository, Algorithm::Sha256)
                .await
                .unwrap();
            let mut offset = 0;
            for (number, piece) in bytes.chunks(chunk).enumerate() {
                let store = &stores[(number + 1) % stores.len()];
                let last = offset + piece.len() as u64 - 1;
                let range = Some(ByteRange {
                    first: offset,
                    last,
                });
                let append = store.append_upload(&repository, &upload.id, range, body(&[piece]));
                offset = append.await.unwrap().offset;
                for store in stores {
                    let seen = store.upload(&repository, &upload.id).await.unwrap();
                    assert_eq!(seen.offset, offset);
                }
                let wrong = stores[0].append_upload(&repository, &upload.id, range, body(&[piece]));
                assert!(matches!(wrong.await, Err(StoreError::OutOfOrder { .. })));
            }
            let finish = stores[2].finish_upload(&repository, &upload.id, None, body(&[]), &digest);
            finish.await.unwrap();
            for store in stores {
                assert!(
                    read(store, &repository, &digest).await.unwrap() == bytes,
                    "{size}"
                );
                let over = store.upload(&repository, &upload.id).await;
                assert!(matches!(over, Err(StoreError::UploadUnknown(_))));
            }
        }
    }
}

/// The client that sends a chunk twice, because its first connection seems dead, sends the same bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn chunk_sent_to_all_replicas_at_once_is_taken_once() {
    for place in shared_places("chunk_sent_to_all_replicas_at_once_is_taken_once").await {
        let repository = name("a/b");
        for (start, chunk) in [
            (0, 10),
            (0, 6 * MIB),
            (6 * MIB, 100),
            (6 * MIB, 100 * KIB),
            (6 * MIB, 7 * MIB),
        ] {
            let bytes = content(start + chunk, 1);
            let digest = Digest::sha256(&bytes);
            let store = &place.stores[0];
            let upload = store
                .start_upload(&repository, Algorithm::Sha256)
                .await
                .unwrap();
            if start > 0 {
                let first = body(&[&bytes[..start]]);
                store
                    .append_upload(&repository, &upload.id, None, first)
                    .await
                    .unwrap();
            }
            let range = Some(ByteRange {
                first: start as u64,
                last: (start + chunk) as u64 - 1,
            });
            let writers = place.stores.iter().map(|store| {
                let pieces: Vec<&[u8]> = bytes[start..].chunks(100_000).collect();
                store.append_upload(&repository, &upload.id, range, body(&pieces))
            });
            let mut taken = 0;
            for done in join_all(writers).await {
                match done {
                    Ok(_) => taken += 1,
                    Err(StoreError::UploadBusy | StoreError::OutOfOrder { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert_eq!(taken, 1, "{start} {chunk}");
            let closers = place.stores.iter().map(|store| {
                store.finish_upload(&repository, &upload.id, None, body(&[]), &digest)
            });
            let mut closed = 0;
            for done in join_all(closers).await {
                match done {
                    Ok(()) => closed += 1,
                    Err(StoreError::UploadBusy | StoreError::UploadUnknown(_)) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert!(closed >= 1, "{start} {chunk}");
            assert!(read(store, &repository, &digest).await.unwrap() == bytes);
            store.delete_blob(&repository, &digest).await.unwrap();
        }
    }
}

/// Clients that share an upload and do not agree on its bytes get what they deserve, but no wrong blob.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn different_chunks_for_one_place_never_make_a_mixture() {
    // Memory does not check the parts that it is told to put together.
    let test = "different_chunks_for_one_place_never_make_a_mixture";
    let places = [
        on_minio(&format!("{test}_on_minio"), 2).await,
        on_azurite(&format!("{test}_on_azurite"), 2).await,
    ];
    for place in places.into_iter().flatten() {
        let repository = name("a/b");
        for round in 0..4 {
            let head = content(5 * MIB, round);
            let tails = [content(6 * MIB, 100 + round), content(6 * MIB, 200 + round)];
            let store = &place.stores[0];
            let upload = store
                .start_upload(&repository, Algorithm::Sha256)
                .await
                .unwrap();
            store
                .append_upload(&repository, &upload.id, None, body(&[&head]))
                .await
                .unwrap();
            let writers = place.stores.iter().zip(&tails).map(|(store, tail)| {
                let range = Some(ByteRange {
                    first: 5 * MIB as u64,
                    last: 11 * MIB as u64 - 1,
                });
                store.append_upload(&repository, &upload.id, range, body(&[tail]))
            });
            let done = join_all(writers).await;
            let taken: Vec<&Vec<u8>> = (done.iter().zip(&tails))
                .filter_map(|(done, tail)| done.is_ok().then_some(tail))
                .collect();
            let [tail] = taken[..] else {
                panic!("{done:?}");
            };
            let bytes = [head.as_slice(), tail].concat();
            let digest = Digest::sha256(&bytes);
            let finish = store.finish_upload(&repository, &upload.id, None, body(&[]), &digest);
            match finish.await {
                Ok(()) => assert!(read(store, &repository, &digest).await.unwrap() == bytes),
                Err(StoreError::UploadUnknown(_)) => {
                    let found = store.blob(&repository, &digest).await;
                    assert!(matches!(found, Err(StoreError::BlobUnknown(_))));
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn blob_that_was_closed_is_whole_whoever_cancels_or_expires_it_meanwhile() {
    let test = "blob_that_was_closed_is_whole_whoever_cancels_or_expires_it_meanwhile";
    for place in shared_places(test).await {
        let repository = name("a/b");
        let [one, two, three] = &place.stores[..] else {
            panic!("three replicas");
        };
        for (round, size) in [100, 300 * KIB, 6 * MIB]
            .into_iter()
            .cycle()
            .take(9)
            .enumerate()
        {
            let bytes = content(size, round as u64);
            let digest = Digest::sha256(&bytes);
            let upload = one
                .start_upload(&repository, Algorithm::Sha256)
                .await
                .unwrap();
            one.append_upload(&repository, &upload.id, None, body(&[&bytes]))
                .await
                .unwrap();
            let (closed, cancelled, expired) = tokio::join!(
                one.finish_upload(&repository, &upload.id, None, body(&[]), &digest),
                two.cancel_upload(&repository, &upload.id),
                three.expire_uploads(Timestamp::MAX),
            );
            expired.unwrap();
            match &cancelled {
                Ok(()) | Err(StoreError::UploadBusy | StoreError::UploadUnknown(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
            match closed {
                Ok(()) => {
                    assert!(read(two, &repository, &digest).await.unwrap() == bytes);
                    two.delete_blob(&repository, &digest).await.unwrap();
                }
                Err(StoreError::UploadBusy | StoreError::UploadUnknown(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn closing_that_broke_off_can_be_done_on_another_replica() {
    for place in shared_places("closing_that_broke_off_can_be_done_on_another_replica").await {
        let repository = name("a/b");
        let bytes = content(12 * MIB, 1);
        let digest = Digest::sha256(&bytes);
        let [one, two, three] = &place.stores[..] else {
            panic!("three replicas");
        };
        let (start, rest) = bytes.split_at(6 * MIB);
        let upload = one
            .start_upload(&repository, Algorithm::Sha256)
            .await
            .unwrap();
        one.append_upload(&repository, &upload.id, None, body(&[start]))
            .await
            .unwrap();
        let broken = broken_body(&[&rest[..5 * MIB]]);
        let failed = two
            .finish_upload(&repository, &upload.id, None, broken, &digest)
            .await;
        assert!(matches!(failed, Err(StoreError::Body(_))), "{failed:?}");
        // It takes chunks again, and is closed with what is left.
        let upload = three.append_upload(&repository, &upload.id, None, body(&[&rest[..MIB]]));
        let upload = upload.await.unwrap();
        assert_eq!(upload.offset, 7 * MIB as u64);
        let finish = one.finish_upload(
            &repository,
            &upload.id,
            None,
            body(&[&rest[MIB..]]),
            &digest,
        );
        finish.await.unwrap();
        assert!(read(two, &repository, &digest).await.unwrap() == bytes);
    }
}

async fn put_image(store: &Store, reference: &str, layer: &[u8]) -> Digest {
    let repository = name("a/b");
    let config = Digest::sha256(b"{}");
    store
        .put_blob(&repository, body(&[b"{}"]), &config)
        .await
        .unwrap();
    let digest = Digest::sha256(layer);
    store
        .put_blob(&repository, body(&[layer]), &digest)
        .await
        .unwrap();
    let new = NewManifest {
        reference: &reference.parse().unwrap(),
        tags: &[],
        content_type: None,
        bytes: serde_json::to_vec(&image(&config, &[&digest]))
            .unwrap()
            .into(),
        condition: Condition::None,
    };
    store.put_manifest(&repository, new).await.unwrap().digest
}

#[tokio::test]
async fn what_one_replica_wrote_the_next_request_to_any_other_sees() {
    let test = "what_one_replica_wrote_the_next_request_to_any_other_sees";
    for place in shared_places(test).await {
        let repository = name("a/b");
        for round in 0_usize..12 {
            let writer = &place.stores[round % 3];
            let digest = put_image(writer, "latest", &round.to_le_bytes()).await;
            for store in &place.stores {
                let reference = Reference::Tag(tag("latest"));
                let manifest = store.manifest(&repository, &reference).await.unwrap();
                assert_eq!(manifest.digest, digest);
            }
            place.stores[(round + 1) % 3]
                .delete_tag(&repository, &tag("latest"))
                .await
                .unwrap();
            for store in &place.stores {
                assert_eq!(store.tag(&repository, &tag("latest")).await.unwrap(), None);
            }
        }
    }
}

#[tokio::test]
async fn tag_watch_wakes_for_a_change_on_another_replica() {
    for place in shared_places("tag_watch_wakes_for_a_change_on_another_replica").await {
        let repository = name("a/b");
        let [one, two, _] = &place.stores[..] else {
            panic!("three replicas");
        };
        let mut known = None;
        for round in 0_u8..3 {
            let mut watch = two.watch_tag(&repository, &tag("latest"));
            let found = two.tag(&repository, &tag("latest")).await.unwrap();
            assert_eq!(found.map(|found| found.digest), known);
            let moved = put_image(one, "latest", &[round]).await;
            let woken = async {
                loop {
                    watch.changed().await;
                    let found = two.tag(&repository, &tag("latest")).await.unwrap();
                    let found = found.map(|found| found.digest);
                    if found != known {
                        return found;
                    }
                }
            };
            let found = tokio::time::timeout(PATIENCE, woken).await.unwrap();
            assert_eq!(found, Some(moved.clone()));
            known = Some(moved);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_for_one_tag_cost_one_read_a_second() {
    let counting = Counting::default();
    let store = Store::multipart(counting.clone());
    let repository = name("a/b");
    put_image(&store, "latest", b"1").await;
    counting.take();
    let watches: Vec<_> = (0..100)
        .map(|_| store.watch_tag(&repository, &tag("latest")))
        .collect();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(counting.take(), "4 get _tags");
    drop(watches);
    tokio::task::yield_now().await;
    counting.take();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(counting.take(), "");
}

/// Whatever becomes of an upload, no part of it stays that no object is made of, and no object that nothing leads to.
#[tokio::test]
async fn attempts_that_fail_leave_neither_parts_nor_pieces() {
    let counting = Counting::default();
    let store = Store::multipart(counting.clone());
    let repository = name("a/b");
    let bytes = content(13 * MIB, 1);
    let wrong = Digest::sha256(b"else");
    let begin = async || {
        store
            .start_upload(&repository, Algorithm::Sha256)
            .await
            .unwrap()
    };
    let append = async |upload: &deploy_registry::store::Upload, bytes: &[u8]| {
        let append = store.append_upload(&repository, &upload.id, None, body(&[bytes]));
        append.await.unwrap();
    };

    store
        .put_blob(&repository, body(&[&bytes]), &wrong)
        .await
        .unwrap_err();
    let broken = store.put_blob(&repository, broken_body(&[&bytes]), &wrong);
    broken.await.unwrap_err();
    for first in [100 * KIB, 6 * MIB] {
        // Closed with the wrong digest, at once and after a chunk.
        let upload = begin().await;
        let finish = store.finish_upload(&repository, &upload.id, None, body(&[&bytes]), &wrong);
        finish.await.unwrap_err();
        let upload = begin().await;
        append(&upload, &bytes[..first]).await;
        let rest = body(&[&bytes[first..]]);
        store
            .finish_upload(&repository, &upload.id, None, rest, &wrong)
            .await
            .unwrap_err();
        // Cancelled, expired, and too long for its range.
        let upload = begin().await;
        append(&upload, &bytes[..first]).await;
        append(&upload, &bytes[first..]).await;
        store.cancel_upload(&repository, &upload.id).await.unwrap();
        let upload = begin().await;
        append(&upload, &bytes[..first]).await;
        let range = Some(ByteRange {
            first: first as u64,
            last: first as u64 + 10,
        });
        let rest = body(&[&bytes[first..]]);
        store
            .append_upload(&repository, &upload.id, range, rest)
            .await
            .unwrap_err();
        store.expire_uploads(Timestamp::MAX).await.unwrap();
    }
    let counts = counting.take();
    let count = |what: &str| -> usize {
        let found = counts
            .split(", ")
            .find_map(|entry| entry.strip_suffix(what));
        found.map_or(0, |count| count.trim().parse().unwrap())
    };
    assert!(count("begin data") > 5, "{counts}");
    assert_eq!(
        count("begin data"),
        count("abort data") + count("complete data"),
        "{counts}"
    );
    assert_eq!(counting.keys().await, [""; 0]);
}
