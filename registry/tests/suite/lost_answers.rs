//! Requests to an S3 server whose answers are lost or late, one at a time: what the client's
//! library sends again is recognised as ours, and takes nothing that came in between.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use deploy_registry::{
    Store, StoreError,
    store::{Clock, Collection, Condition, Mode, NewManifest, Others, Pace, Progress},
};
use deploy_spec::{Algorithm, Digest, RepositoryName};
use http::Method;
use jiff::{SignedDuration, Timestamp};

use crate::{
    faulty_proxy::{Behind, Fault, FaultyProxy},
    harness::{body, content, image, name, read, tag},
};

const MIB: usize = 1024 * 1024;
const GRACE: SignedDuration = SignedDuration::from_hours(24);

async fn put_blob(
    store: &Store,
    repository: &RepositoryName,
    bytes: &[u8],
) -> Result<Digest, StoreError> {
    let digest = Digest::sha256(bytes);
    store.put_blob(repository, body(&[bytes]), &digest).await?;
    Ok(digest)
}

async fn put_manifest(
    store: &Store,
    repository: &RepositoryName,
    seed: u64,
    condition: Condition,
) -> Result<Digest, StoreError> {
    let config = put_blob(store, repository, format!("{{\"seed\":{seed}}}").as_bytes()).await?;
    let new = NewManifest {
        reference: &tag("v1").into(),
        tags: &[],
        content_type: None,
        bytes: image(&config, &[]).to_string().into(),
        condition,
    };
    Ok(store.put_manifest(repository, new).await?.digest)
}

#[tokio::test]
async fn what_was_done_without_an_answer_is_recognised_as_ours() {
    let test = "what_was_done_without_an_answer_is_recognised_as_ours";
    let Some(behind) = Behind::start(test).await else {
        return;
    };
    let (store, proxy) = (behind.store().await, &behind.proxy);
    for (fault, repository) in [(Fault::Lost, name("lost")), (Fault::Denied, name("denied"))] {
        for part in ["/blobs/", "/_blobs/", "/data/"] {
            let strike = proxy.strike(Method::PUT, part, fault);
            let bytes = content(100_000, part.len() as u64);
            let digest = put_blob(&store, &repository, &bytes).await.unwrap();
            strike.struck().await;
            assert!(read(&store, &repository, &digest).await.unwrap() == bytes);
        }
        // A condition that our own write has broken holds all the same.
        let strike = proxy.strike(Method::PUT, "/_tags/", fault);
        let first = put_manifest(&store, &repository, 1, Condition::Absent)
            .await
            .unwrap();
        strike.struck().await;
        let strike = proxy.strike(Method::PUT, "/_tags/", fault);
        let condition = Condition::OneOf(vec![first]);
        put_manifest(&store, &repository, 2, condition)
            .await
            .unwrap();
        strike.struck().await;
        let strike = proxy.strike(Method::PUT, "/_manifests/", fault);
        put_manifest(&store, &repository, 3, Condition::Present)
            .await
            .unwrap();
        strike.struck().await;
        let strike = proxy.strike(Method::DELETE, "/_tags/", fault);
        store.delete_tag(&repository, &tag("v1")).await.unwrap();
        strike.struck().await;
        upload_in_chunks(&store, &repository, proxy, fault).await;
    }
    assert_eq!(proxy.open_multipart_uploads().0, 0);
}

/// Each step of an upload loses the answer of what it writes.
async fn upload_in_chunks(
    store: &Store,
    repository: &RepositoryName,
    proxy: &FaultyProxy,
    fault: Fault,
) {
    let bytes = content(12 * MIB, 7);
    let (half, rest) = bytes.split_at(7 * MIB);
    let strike = proxy.strike(Method::PUT, "/uploads/", fault);
    let started = store.start_upload(repository, Algorithm::Sha256).await;
    let id = started.unwrap().id;
    strike.struck().await;
    let strikes = [
        proxy.strike(Method::POST, "?uploads", fault),
        proxy.strike(Method::PUT, "partNumber=1", fault),
        proxy.strike(Method::PUT, "/uploads/", fault),
    ];
    let appended = store.append_upload(repository, &id, None, body(&[half]));
    assert_eq!(appended.await.unwrap().offset, half.len() as u64);
    for strike in strikes {
        strike.struck().await;
    }
    let strikes = [
        proxy.strike(Method::PUT, "/uploads/", fault),
        proxy.strike(Method::PUT, "partNumber=3", fault),
        proxy.strike(Method::POST, "uploadId=", fault),
        proxy.strike(Method::DELETE, "/uploads/", fault),
    ];
    let digest = Digest::sha256(&bytes);
    store
        .finish_upload(repository, &id, None, body(&[rest]), &digest)
        .await
        .unwrap();
    for strike in strikes {
        strike.struck().await;
    }
    assert!(read(store, repository, &digest).await.unwrap() == bytes);
}

#[tokio::test]
async fn pull_goes_on_when_its_answer_breaks_off() {
    let Some(behind) = Behind::start("pull_goes_on_when_its_answer_breaks_off").await else {
        return;
    };
    let (store, proxy) = (behind.store().await, &behind.proxy);
    let (repository, bytes) = (name("a"), content(3 * MIB, 1));
    let digest = put_blob(&store, &repository, &bytes).await.unwrap();
    let strikes = [
        Fault::Torn,
        Fault::Refused,
        Fault::Torn,
        Fault::Lost,
        Fault::Torn,
    ]
    .map(|fault| proxy.strike(Method::GET, "/data/", fault));
    assert!(read(&store, &repository, &digest).await.unwrap() == bytes);
    assert!(strikes.len() > 1 && !proxy.has_strikes());
}

#[tokio::test]
async fn session_is_not_reset_by_a_request_that_arrives_late() {
    let test = "session_is_not_reset_by_a_request_that_arrives_late";
    let Some(behind) = Behind::start(test).await else {
        return;
    };
    let (store, proxy) = (behind.impatient_store().await, &behind.proxy);
    let (repository, bytes) = (name("a"), content(100_000, 1));
    let strike = proxy.strike(Method::PUT, "/uploads/", Fault::Late);
    let upload = loop {
        // It may be said to have failed; then the client begins anew.
        if let Ok(upload) = store.start_upload(&repository, Algorithm::Sha256).await {
            break upload;
        }
    };
    let append = store.append_upload(&repository, &upload.id, None, body(&[&bytes]));
    let offset = append.await.unwrap().offset;
    strike.struck().await;
    proxy.settled().await;
    let found = store.upload(&repository, &upload.id).await.unwrap();
    assert_eq!(found.offset, offset);
}

/// A store and the time in it, which it shares with others.
fn in_time(store: Store, ahead: &Arc<AtomicI64>) -> Store {
    let ahead = ahead.clone();
    store.with_clock(Clock::new(move || {
        Timestamp::now() + SignedDuration::from_secs(ahead.load(Ordering::SeqCst))
    }))
}

async fn collect(store: &Store) -> Result<(), StoreError> {
    let collection = Collection {
        grace: GRACE,
        upload_expiry: GRACE,
        mode: Mode::Do,
        others: Others::Served,
        without_tags: Default::default(),
        pace: Pace::unbounded(),
    };
    store.collect(&collection, &Progress::default()).await
}

/// A blob that nobody needs is collected. While its `part` is being removed, somebody pushes it
/// again; then the collector's request goes wrong.
async fn push_while_removed(behind: &Behind, part: &'static str, fault: Fault) {
    let ahead = Arc::new(AtomicI64::new(0));
    let collector = in_time(behind.impatient_store().await, &ahead);
    let pusher = in_time(behind.place.store().await, &ahead);
    let (repository, bytes) = (name("a"), content(100_000, 1));
    let digest = put_blob(&pusher, &repository, &bytes).await.unwrap();
    for _ in 0..2 {
        ahead.fetch_add(GRACE.as_secs() + 3600, Ordering::SeqCst);
        if ahead.load(Ordering::SeqCst) < 2 * GRACE.as_secs() {
            collect(&collector).await.unwrap();
        }
    }
    let strike = behind.proxy.hold(Method::DELETE, part, fault);
    let collection = tokio::spawn(async move { collect(&collector).await });
    match fault {
        Fault::Late => {
            strike.arrived().await;
            strike.release();
        }
        _ => strike.struck().await,
    }
    put_blob(&pusher, &repository, &bytes).await.unwrap();
    strike.release();
    // It may say that it does not know what became of it.
    let _ = collection.await.unwrap();
    behind.proxy.settled().await;
    assert!(!behind.proxy.has_strikes(), "{part} {fault:?}");
    assert!(
        read(&pusher, &repository, &digest).await.unwrap() == bytes,
        "{part} {fault:?}"
    );
}

#[tokio::test]
async fn delete_that_goes_wrong_takes_nothing_that_was_pushed_since() {
    let test = "delete_that_goes_wrong_takes_nothing_that_was_pushed_since";
    for part in ["/_blobs/", "/blobs/"] {
        for fault in [
            Fault::Lost,
            Fault::Denied,
            Fault::Reset,
            Fault::HungAfter,
            Fault::Late,
        ] {
            let Some(behind) = Behind::start(test).await else {
                return;
            };
            push_while_removed(&behind, part, fault).await;
        }
    }
}
