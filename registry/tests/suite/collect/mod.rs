//! What a collection takes and what it leaves, on every backend that can run here, in a time
//! that the tests set.

mod place;

use std::sync::{Arc, atomic::AtomicI64};

use deploy_registry::{
    Store, StoreError,
    jobs::{Gc, Retention, collect},
    store::{Collection, Kind, Mode, Others, Pace, Progress},
};
use deploy_spec::{Algorithm, Digest};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::sync::watch;

use crate::{
    backends::{in_memory, on_azurite, on_minio},
    harness::{INDEX, MANIFEST, body, content, image, name, read, tag},
};
use place::{
    GRACE, Place, REPOSITORY, Removed, has_blob, has_manifest, image_of, put, put_blob,
    put_untagged,
};

/// Runs the test on a store in a directory and on one in memory; where `everywhere` stands
/// before it, on servers as well.
macro_rules! tests {
    ($($(#[$attribute:meta])* $where:ident async fn $test:ident($place:ident: Place) $body:block)*) => {
        $(
            mod $test {
                use super::*;

                async fn check($place: Place) $body

                #[tokio::test]
                async fn directory() {
                    check(Place::directory()).await;
                }

                #[tokio::test]
                async fn memory() {
                    check(Place::memory()).await;
                }

                tests!($where $test);
            }
        )*
    };
    (locally $test:ident) => {};
    (everywhere $test:ident) => {
        #[tokio::test]
        async fn minio() {
            let name = concat!("collect::", stringify!($test), "_on_minio");
            if let Some(place) = Place::first(on_minio(name, 1).await) {
                check(place).await;
            }
        }

        #[tokio::test]
        async fn azurite() {
            let name = concat!("collect::", stringify!($test), "_on_azurite");
            if let Some(place) = Place::first(on_azurite(name, 1).await) {
                check(place).await;
            }
        }
    };
}

tests! {
    everywhere async fn what_is_untagged_goes_after_its_grace_with_all_that_only_it_needs(place: Place) {
        let (store, repository) = (&place.store, name(REPOSITORY));
        let (kept, kept_layer) = image_of(store, REPOSITORY, 1, 100_000).await;
        let (gone, gone_layer) = image_of(store, REPOSITORY, 2, 100_000).await;
        put(store, REPOSITORY, "v1", &kept).await;
        let gone_digest = put(store, REPOSITORY, "v2", &gone).await;
        store.delete_tag(&repository, &tag("v2")).await.unwrap();
        // Young, then condemned, then its grace is not over.
        assert_eq!(place.round().await.removed_bytes(), 0);
        place.pass(GRACE + SignedDuration::from_hours(1));
        let condemned = place.round().await;
        assert_eq!((condemned.manifests.condemned, condemned.blobs.condemned), (1, 1));
        assert_eq!(condemned.blobs.condemned_bytes, 100_000);
        place.pass(SignedDuration::from_hours(23));
        assert_eq!(place.round().await.removed_bytes(), 0);
        place.pass(SignedDuration::from_hours(2));
        let removed = place.round().await;
        assert_eq!((removed.manifests.removed, removed.members.removed), (1, 1));
        assert_eq!((removed.blobs.removed, removed.blobs.removed_bytes), (1, 100_000));
        assert!(!has_manifest(store, &repository, &gone_digest).await);
        assert!(!has_blob(store, &repository, &gone_layer).await);
        assert!(read(store, &repository, &kept_layer).await.unwrap() == content(100_000, 1));
        assert_eq!(place.rounds(3).await, Removed::default());
        // And it can be pushed again.
        let (gone, gone_layer) = image_of(store, REPOSITORY, 2, 100_000).await;
        put(store, REPOSITORY, "v2", &gone).await;
        assert!(read(store, &repository, &gone_layer).await.unwrap() == content(100_000, 2));
    }

    everywhere async fn whatever_a_tag_leads_to_stays(place: Place) {
        let (store, repository) = (&place.store, name(REPOSITORY));
        // Index → index → image, its referrer, and the referrer of that.
        let (child, layer) = image_of(store, REPOSITORY, 1, 10).await;
        let child_digest = put_untagged(store, REPOSITORY, &child).await;
        let inner = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
            { "mediaType": MANIFEST, "digest": child_digest, "size": 1 }] });
        let inner_digest = put_untagged(store, REPOSITORY, &inner).await;
        let outer = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
            { "mediaType": INDEX, "digest": inner_digest, "size": 1 }] });
        let outer_digest = put(store, REPOSITORY, "v1", &outer).await;
        let mut needed = vec![child_digest.clone(), inner_digest, outer_digest];
        let mut layers = vec![layer];
        let mut subject = child_digest;
        for seed in 2..4 {
            let (mut referrer, layer) = image_of(store, REPOSITORY, seed, 10).await;
            referrer["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
            subject = put_untagged(store, REPOSITORY, &referrer).await;
            needed.push(subject.clone());
            layers.push(layer);
        }
        // And the other way round: a tagged one keeps its subject.
        let (below, layer) = image_of(store, REPOSITORY, 5, 10).await;
        let below_digest = put_untagged(store, REPOSITORY, &below).await;
        let (mut above, above_layer) = image_of(store, REPOSITORY, 6, 10).await;
        above["subject"] = json!({ "mediaType": MANIFEST, "digest": below_digest, "size": 1 });
        put(store, REPOSITORY, "signature", &above).await;
        needed.push(below_digest);
        layers.extend([layer, above_layer]);

        assert_eq!(place.rounds(4).await, Removed::default());
        for digest in &needed {
            assert!(has_manifest(store, &repository, digest).await);
        }
        for layer in &layers {
            assert!(has_blob(store, &repository, layer).await);
        }
        store.delete_tag(&repository, &tag("v1")).await.unwrap();
        store.delete_tag(&repository, &tag("signature")).await.unwrap();
        let removed = place.rounds(3).await;
        assert_eq!(removed.count(Kind::Manifests), 7);
        assert_eq!(removed.count(Kind::Referrers), 3);
        assert_eq!(removed.count(Kind::Catalog), 1);
        // Seven layers less one that all share, and the configuration.
        assert_eq!(removed.count(Kind::Blobs), layers.len() as u64 + 1);
        assert!(store.repositories(None, 10).await.unwrap().items.is_empty());
    }

    everywhere async fn whoever_relies_on_what_is_condemned_brings_it_back(place: Place) {
        let store = &place.store;
        let mut layers = Vec::new();
        for seed in 0..5 {
            layers.push(put_blob(store, REPOSITORY, &content(50, seed)).await);
        }
        let repository = name(REPOSITORY);
        let config = put_blob(store, REPOSITORY, b"{}").await;
        let manifest = image(&config, &[&layers[3]]);
        let digest = put(store, REPOSITORY, "v1", &manifest).await;
        store.delete_tag(&repository, &tag("v1")).await.unwrap();
        place.pass(GRACE + SignedDuration::from_hours(1));
        assert_eq!(place.round().await.members.condemned, 6);
        place.pass(GRACE + SignedDuration::from_hours(1));
        // By looking at it, mounting it, pushing it, and pushing what names it.
        store.blob(&repository, &layers[0]).await.unwrap();
        assert!(store.mount_blob(&name("other"), Some(&repository), &layers[1]).await.unwrap());
        put_blob(store, REPOSITORY, &content(50, 2)).await;
        put(store, REPOSITORY, "v2", &manifest).await;
        let removed = place.round().await;
        assert_eq!((removed.members.removed, removed.blobs.removed), (1, 1));
        assert_eq!(removed.manifests.removed, 0);
        for layer in &layers[..4] {
            assert!(has_blob(store, &repository, layer).await);
        }
        assert!(has_blob(store, &name("other"), &layers[1]).await);
        assert!(!has_blob(store, &repository, &layers[4]).await);
        assert!(has_manifest(store, &repository, &digest).await);
    }

    everywhere async fn manifest_that_somebody_looks_at_keeps_its_blobs(place: Place) {
        let (store, repository) = (&place.store, name(REPOSITORY));
        let (manifest, layer) = image_of(store, REPOSITORY, 1, 50).await;
        let digest = put_untagged(store, REPOSITORY, &manifest).await;
        place.pass(GRACE + SignedDuration::from_hours(1));
        place.round().await;
        // Its blobs stay condemned for longer than their grace, it comes back in between.
        place.pass(GRACE + SignedDuration::from_hours(1));
        assert!(has_manifest(store, &repository, &digest).await);
        place.pass(GRACE + SignedDuration::from_hours(1));
        assert_eq!(place.round().await.blobs.removed, 0);
        assert!(has_blob(store, &repository, &layer).await);
    }

    everywhere async fn what_crashes_leave_behind_goes(place: Place) {
        let (store, repository) = (&place.store, name(REPOSITORY));
        let (manifest, layer) = image_of(store, REPOSITORY, 1, 100_000).await;
        put(store, REPOSITORY, "v1", &manifest).await;
        for size in [10, 100_000, 300_000] {
            let upload = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
            let bytes = content(size, 7);
            store.append_upload(&repository, &upload.id, None, body(&[&bytes])).await.unwrap();
        }
        // A blob that was deleted, and one that no manifest ever named.
        put_blob(store, "c", &content(100_000, 8)).await;
        let deleted = put_blob(store, "c", &content(100_000, 9)).await;
        store.delete_blob(&name("c"), &deleted).await.unwrap();
        assert_eq!(place.round().await.uploads.removed, 0);
        let removed = place.rounds(3).await;
        assert_eq!(removed.count(Kind::Uploads), 3);
        assert_eq!(removed.count(Kind::Blobs), 2);
        assert!(has_blob(store, &repository, &layer).await);
        if place.directory.is_some() {
            let data = place.files().iter().filter(|file| {
                file.components().any(|part| part.as_os_str() == "data")
            }).count();
            assert_eq!(data, 1, "{:?}", place.files());
        }
    }

    locally async fn dry_run_says_what_goes_and_changes_nothing(place: Place) {
        let (store, repository) = (&place.store, name("configs/site"));
        for number in 1..4 {
            let (manifest, _) = image_of(store, "configs/site", number, 1000).await;
            put(store, "configs/site", &format!("v{number}"), &manifest).await;
        }
        let upload = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
        store.append_upload(&repository, &upload.id, None, body(&[b"x"])).await.unwrap();
        place.pass(GRACE + SignedDuration::from_hours(1));
        let gc = |dry_run| Gc {
            grace: GRACE.unsigned_abs(),
            rate: 0,
            upload_expiry: GRACE.unsigned_abs(),
            retention: Retention { versions: None, releases: Some(1) },
            dry_run,
        };
        let files = place.files();
        let mut said = Vec::new();
        for dry_run in [true, true, false] {
            let (progress, stop) = (Progress::default(), watch::channel(false).1);
            let done = collect(store, &gc(dry_run), Others::Served, &progress, stop).await.unwrap();
            if dry_run {
                assert_eq!(place.files(), files);
                assert_eq!(store.all_tags(&repository).await.unwrap().len(), 3);
            }
            said.push((
                done.tags.removed,
                done.manifests.condemned,
                done.blobs.condemned_bytes,
                done.uploads.removed,
            ));
        }
        assert_eq!(said, [(2, 2, 2000, 1); 3]);
        assert_eq!(store.all_tags(&repository).await.unwrap().len(), 1);
    }

    locally async fn round_without_a_grace_takes_all_at_once(place: Place) {
        let (store, repository) = (&place.store, name(REPOSITORY));
        let (manifest, layer) = image_of(store, REPOSITORY, 1, 100_000).await;
        put(store, REPOSITORY, "v1", &manifest).await;
        store.delete_tag(&repository, &tag("v1")).await.unwrap();
        let upload = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
        let bytes = content(100_000, 7);
        store.append_upload(&repository, &upload.id, None, body(&[&bytes])).await.unwrap();
        let gc = Gc {
            grace: std::time::Duration::ZERO,
            rate: 0,
            upload_expiry: GRACE.unsigned_abs(),
            retention: Retention::default(),
            dry_run: false,
        };
        let (progress, stop) = (Progress::default(), watch::channel(false).1);
        let done = collect(store, &gc, Others::Offline, &progress, stop).await.unwrap();
        assert_eq!((done.manifests.removed, done.blobs.removed), (1, 2));
        assert_eq!(done.uploads.removed, 0);
        assert!(!has_blob(store, &repository, &layer).await);
        // Whoever was pushing goes on.
        let digest = Digest::sha256(&bytes);
        store
            .finish_upload(&repository, &upload.id, None, body(&[]), &digest)
            .await
            .unwrap();
        assert!(read(store, &repository, &digest).await.unwrap() == bytes);
    }

    locally async fn stopped_round_is_taken_up_by_the_next(place: Place) {
        let store = &place.store;
        for seed in 0..20 {
            put_blob(store, REPOSITORY, &content(50, seed)).await;
        }
        place.pass(GRACE + SignedDuration::from_hours(1));
        let (stop, stopped) = watch::channel(true);
        let collection = Collection {
            grace: GRACE,
            upload_expiry: GRACE,
            mode: Mode::Do,
            others: Others::Served,
            without_tags: Default::default(),
            pace: Pace::per_second(1000).until(stopped),
        };
        let progress = Progress::default();
        let done = store.collect(&collection, &progress).await;
        assert!(matches!(done, Err(StoreError::Stopped)));
        drop(stop);
        let removed = place.rounds(2).await;
        assert_eq!(removed.count(Kind::Blobs), 20);
    }
}

#[tokio::test]
async fn two_collectors_at_once_take_each_thing_once() {
    let test = "two_collectors_at_once_take_each_thing_once";
    let replicas = [
        Some(in_memory(2)),
        on_minio(&format!("{test}_on_minio"), 2).await,
        on_azurite(&format!("{test}_on_azurite"), 2).await,
    ];
    for replicas in replicas.into_iter().flatten() {
        let ahead = Arc::new(AtomicI64::new(0));
        let places = replicas.stores.into_iter();
        let places: Vec<_> = places
            .map(|store| Place::at(store, ahead.clone(), None))
            .collect();
        let [one, other] = &places[..] else {
            panic!("two replicas were asked for");
        };
        let repository = name(REPOSITORY);
        let mut kept = Vec::new();
        for seed in 0..8 {
            let (manifest, layer) = image_of(&one.store, REPOSITORY, seed, 100_000).await;
            match seed % 2 {
                0 => {
                    put(&one.store, REPOSITORY, &format!("v{seed}"), &manifest).await;
                    kept.push((seed, layer));
                }
                _ => {
                    put_untagged(&one.store, REPOSITORY, &manifest).await;
                }
            }
        }
        // Where one meets the other at the same object, it is left to a later round.
        let mut removed = [0; 3];
        for _ in 0..6 {
            one.pass(GRACE + SignedDuration::from_hours(1));
            let (first, second) = tokio::join!(one.round(), other.round());
            for round in [first, second] {
                let counts = [round.manifests, round.members, round.blobs];
                for (sum, counts) in removed.iter_mut().zip(counts) {
                    *sum += counts.removed;
                }
            }
        }
        assert_eq!(removed, [4; 3]);
        assert_eq!(other.rounds(2).await, Removed::default());
        for (seed, layer) in kept {
            let bytes = read(&other.store, &repository, &layer).await.unwrap();
            assert!(bytes == content(100_000, seed));
        }
    }
}

#[tokio::test]
async fn doomed_object_keeps_its_pusher_waiting_until_its_collector_is_surely_dead() {
    use object_store::{ObjectStoreExt as _, PutPayload, memory::InMemory, path::Path};
    let objects = InMemory::new();
    let place = Place::new(Store::multipart(objects.clone()), None);
    let (store, repository) = (&place.store, name(REPOSITORY));
    let digest = put_blob(store, REPOSITORY, b"one").await;
    let hex = digest.hex();
    let key = Path::from(format!("blobs/sha256/{}/{hex}", &hex[..2]));
    let doomed = json!({
        "size": 3, "created": Timestamp::now(), "state": "doomed", "since": Timestamp::now(),
    });
    let payload = PutPayload::from(format!("{doomed}\n"));
    objects.put(&key, payload).await.unwrap();
    assert!(!has_blob(store, &repository, &digest).await);
    tokio::time::pause();
    let refused = store
        .put_blob(&repository, body(&[b"one"]), &digest)
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::Removing(_)));
    // Another collector leaves it alone as well.
    place.round().await;
    assert!(objects.head(&key).await.is_ok());
    place.pass(SignedDuration::from_mins(21));
    put_blob(store, REPOSITORY, b"one").await;
    assert!(has_blob(store, &repository, &digest).await);
}
