//! Uploads that nobody finishes, on an S3 server: their multipart uploads end, also where the
//! server does not do it when it is first asked.

use deploy_registry::Store;
use deploy_spec::{Algorithm, Digest, RepositoryName};
use http::Method;
use jiff::{SignedDuration, Timestamp};

use crate::{
    faulty_proxy::{Behind, Fault},
    harness::{body, broken_body, content, name},
};

const SIZE: usize = 6 * 1024 * 1024;

/// Begins an upload that has a multipart upload.
async fn begin(store: &Store, repository: &RepositoryName) {
    let upload = store.start_upload(repository, Algorithm::Sha256).await;
    let bytes = content(SIZE, 1);
    store
        .append_upload(repository, &upload.unwrap().id, None, body(&[&bytes]))
        .await
        .unwrap();
}

/// Ends all uploads, as long after the last of them as it takes.
async fn expire(store: &Store) -> usize {
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    store.expire_uploads(later).await.unwrap()
}

#[tokio::test]
async fn dead_upload_ends_with_its_parts() {
    let Some(behind) = Behind::on_minio("dead_upload_ends_with_its_parts").await else {
        return;
    };
    let (store, proxy) = (behind.impatient_store().await, &behind.proxy);
    let repository = name("a");
    begin(&store, &repository).await;
    assert_eq!(proxy.open_multipart_uploads(), (1, 0));
    assert_eq!(expire(&store).await, 1);
    assert_eq!(proxy.open_multipart_uploads(), (0, 0));
}

#[tokio::test]
async fn parts_that_the_server_keeps_are_asked_for_again() {
    let test = "parts_that_the_server_keeps_are_asked_for_again";
    let Some(behind) = Behind::on_minio(test).await else {
        return;
    };
    let (store, proxy) = (behind.impatient_store().await, &behind.proxy);
    let repository = name("a");
    for fault in [Fault::HungBefore, Fault::HungAfter, Fault::Reset] {
        begin(&store, &repository).await;
        proxy.strike(Method::DELETE, "uploadId=", fault);
        assert_eq!(expire(&store).await, 0);
        assert_eq!(expire(&store).await, 1);
        assert_eq!(proxy.open_multipart_uploads(), (0, 0), "{fault:?}");

        // Of a push in one go, nobody else would know.
        proxy.strike(Method::DELETE, "uploadId=", fault);
        let bytes = content(SIZE, 2);
        let digest = Digest::sha256(&bytes);
        let broken = broken_body(&[&bytes]);
        assert!(store.put_blob(&repository, broken, &digest).await.is_err());
        assert_eq!(expire(&store).await, 1);
        assert_eq!(proxy.open_multipart_uploads(), (0, 0), "{fault:?}");
    }
}

#[tokio::test]
async fn parts_that_no_session_came_to_name_end() {
    let Some(behind) = Behind::on_minio("parts_that_no_session_came_to_name_end").await else {
        return;
    };
    let (store, proxy) = (behind.impatient_store().await, &behind.proxy);
    let (repository, bytes) = (name("a"), content(SIZE, 1));
    for fault in [
        Fault::HungBefore,
        Fault::Late,
        Fault::HungAfter,
        Fault::Reset,
    ] {
        let upload = store.start_upload(&repository, Algorithm::Sha256).await;
        let id = upload.unwrap().id;
        let strike = proxy.strike(Method::PUT, "/uploads/", fault);
        let appended = store.append_upload(&repository, &id, None, body(&[&bytes]));
        assert!(appended.await.is_err(), "{fault:?}");
        strike.arrived().await;
        proxy.settled().await;
        // It was done, or never will be.
        let offset = store.upload(&repository, &id).await.unwrap().offset;
        let done = [Fault::HungAfter, Fault::Reset].contains(&fault);
        assert_eq!(
            offset,
            if done { bytes.len() as u64 } else { 0 },
            "{fault:?}"
        );
        assert_eq!(proxy.open_multipart_uploads(), (usize::from(done), 0));
        let rest = &bytes[usize::try_from(offset).unwrap()..];
        let digest = Digest::sha256(&bytes);
        store
            .finish_upload(&repository, &id, None, body(&[rest]), &digest)
            .await
            .unwrap();
        assert_eq!(proxy.open_multipart_uploads(), (0, 0), "{fault:?}");
    }
}
