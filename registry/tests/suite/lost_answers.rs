//! Requests to a server whose answers are lost or late, one at a time: what the client's library
//! sends again is recognised as ours, and takes nothing that came in between.

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

/// A place on each server, with a proxy before it.
async fn everywhere(test: &str) -> Vec<Behind> {
    let places = [
        Behind::on_minio(&format!("{test}_on_minio")).await,
        Behind::on_azurite(&format!("{test}_on_azurite")).await,
    ];
    places.into_iter().flatten().collect()
}

/// Done without an answer, in the two ways in which it is sent again.
const UNANSWERED: [(Fault, &str); 2] = [(Fault::Lost, "lost"), (Fault::Denied, "denied")];

#[tokio::test]
async fn what_was_done_without_an_answer_is_recognised_as_ours() {
    let test = "what_was_done_without_an_answer_is_recognised_as_ours";
    for behind in everywhere(test).await {
        let store = behind.store().await;
        for (fault, repository) in UNANSWERED {
            push_unanswered(&store, &name(repository), &behind.proxy, fault).await;
        }
    }
}

/// Whatever is written for a push loses its answer.
async fn push_unanswered(
    store: &Store,
    repository: &RepositoryName,
    proxy: &FaultyProxy,
    fault: Fault,
) {
    for part in ["/blobs/", "/_blobs/", "/data/"] {
        let strike = proxy.strike(Method::PUT, part, fault);
        let bytes = content(100_000, part.len() as u64);
        let digest = put_blob(store, repository, &bytes).await.unwrap();
        strike.struck().await;
        assert!(read(store, repository, &digest).await.unwrap() == bytes);
    }
    // A condition that our own write has broken holds all the same.
    let strike = proxy.strike(Method::PUT, "/_tags/", fault);
    let pushed = put_manifest(store, repository, 1, Condition::Absent).await;
    strike.struck().await;
    let strike = proxy.strike(Method::PUT, "/_tags/", fault);
    let condition = Condition::OneOf(vec![pushed.unwrap()]);
    let pushed = put_manifest(store, repository, 2, condition).await;
    strike.struck().await;
    pushed.unwrap();
    let strike = proxy.strike(Method::PUT, "/_manifests/", fault);
    let pushed = put_manifest(store, repository, 3, Condition::Present).await;
    strike.struck().await;
    pushed.unwrap();
    store.delete_tag(repository, &tag("v1")).await.unwrap();
}

#[tokio::test]
async fn upload_goes_on_when_each_of_its_steps_loses_its_answer() {
    let test = "upload_goes_on_when_each_of_its_steps_loses_its_answer";
    let Some(behind) = Behind::on_minio(test).await else {
        return;
    };
    let store = behind.store().await;
    for (fault, repository) in UNANSWERED {
        upload_in_chunks(&store, &name(repository), &behind.proxy, fault).await;
    }
    assert_eq!(behind.proxy.open_multipart_uploads().0, 0);
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
    let Some(behind) = Behind::on_minio("pull_goes_on_when_its_answer_breaks_off").await else {
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
    let Some(behind) = Behind::on_minio(test).await else {
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

/// A blob that nobody needs is collected. While its `part` is being removed, by a request of
/// this kind, somebody pushes it again; then the collector's request goes wrong.
async fn push_while_removed(behind: &Behind, request: (Method, &'static str), fault: Fault) {
    let ahead = Arc::new(AtomicI64::new(0));
    let collector = in_time(behind.impatient_store().await, &ahead);
    let pusher = in_time(behind.place.store().await, &ahead);
    let (repository, bytes) = (name("a"), content(100_000, 1));
    let digest = put_blob(&pusher, &repository, &bytes).await.unwrap();
    let longer = GRACE.as_secs() + 3600;
    ahead.fetch_add(longer, Ordering::SeqCst);
    collect(&collector).await.unwrap();
    ahead.fetch_add(longer, Ordering::SeqCst);
    let said = format!("{request:?} {fault:?}");
    let strike = behind.proxy.hold(request.0, request.1, fault);
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
    assert!(!behind.proxy.has_strikes(), "{said}");
    let found = read(&pusher, &repository, &digest).await;
    assert!(found.expect(&said) == bytes, "{said}");
}

const GONE_WRONG: [Fault; 5] = [
    Fault::Lost,
    Fault::Denied,
    Fault::Reset,
    Fault::HungAfter,
    Fault::Late,
];

#[tokio::test]
async fn delete_that_goes_wrong_takes_nothing_that_was_pushed_since() {
    let test = "delete_that_goes_wrong_takes_nothing_that_was_pushed_since";
    for fault in GONE_WRONG {
        for part in ["/_blobs/", "/blobs/"] {
            if let Some(behind) = Behind::on_minio(&format!("{test}_on_minio")).await {
                push_while_removed(&behind, (Method::DELETE, part), fault).await;
            }
        }
        // The first of its deletes is that of the marker.
        if let Some(behind) = Behind::on_azurite(&format!("{test}_on_azurite")).await {
            push_while_removed(&behind, (Method::POST, "comp=batch"), fault).await;
        }
    }
}
