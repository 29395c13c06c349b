//! Many pushers at once. The specification promises that "both operations will proceed".

use futures::future::{join_all, try_join_all};
use serde_json::json;

use crate::check::{Stop, Verdict, checks};
use crate::content::{Blob, Manifest};
use crate::scope::{Repository, Scope};

checks! {
    "Layer Upload De-duplication" {
        Must V1_1_1 "push.concurrent.one-blob" one_blob:
            "many that push one blob at once all succeed";
        Must V1_1_1 "push.concurrent.one-blob-chunked" one_blob_chunked:
            "many that push one blob in chunks at once all succeed";
        Must V1_1_1 "push.concurrent.one-blob-repositories" one_blob_repositories:
            "many that push one blob to repositories of their own all succeed";
    }
    "Pushing Manifests" {
        Must Practice "push.concurrent.many-blobs" many_blobs:
            "many blobs pushed to one repository at once are all there";
        Must Practice "push.concurrent.one-tag" one_tag:
            "of many manifests pushed to one tag at once each is there and the tag leads to one";
        Must Practice "push.concurrent.one-manifest" one_manifest:
            "many that push one manifest at once all succeed";
        Must Practice "push.concurrent.many-tags" many_tags:
            "many tags made at once are all listed";
    }
    "Pushing a blob in chunks" {
        Should Practice "push.concurrent.one-session" one_session:
            "of two chunks for one place sent at once one is taken";
        Should Practice "push.concurrent.one-closing" one_closing:
            "of two closing PUTs sent at once at least one succeeds, and the blob is whole";
    }
}

const PUSHERS: usize = 12;

async fn pushed(repository: &Repository, blob: &Blob) -> Verdict {
    let upload = repository.start().await?;
    upload.close_with(blob, None).await?.status(&[201])?;
    pulled(repository, blob).await
}

async fn pulled(repository: &Repository, blob: &Blob) -> Verdict {
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn one_blob(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100_000));
    try_join_all((0..PUSHERS).map(|_| pushed(&repository, &blob))).await?;
    Ok(())
}

async fn one_blob_chunked(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100_000));
    try_join_all((0..PUSHERS).map(|_| async {
        let mut upload = repository.start().await?;
        let chunk = upload.chunk(30_000);
        for (number, piece) in blob.pieces(chunk).into_iter().enumerate() {
            upload.append(number * chunk, piece).await?;
        }
        upload.close(&blob.digest).send().await?.status(&[201])?;
        pulled(&repository, &blob).await
    }))
    .await?;
    Ok(())
}

async fn one_blob_repositories(scope: Scope) -> Verdict {
    let blob = Blob::random(100_000);
    let repositories: Vec<Repository> = (0..PUSHERS)
        .map(|number| scope.other(&number.to_string()))
        .collect();
    try_join_all(
        repositories
            .iter()
            .map(|repository| pushed(repository, &blob)),
    )
    .await?;
    Ok(())
}

async fn many_blobs(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let blobs: Vec<Blob> = (0..3 * PUSHERS).map(|_| Blob::random(5000)).collect();
    try_join_all(blobs.iter().map(|blob| pushed(&repository, blob))).await?;
    for blob in &blobs {
        pulled(&repository, blob).await?;
    }
    Ok(())
}

async fn manifests(repository: &Repository, count: usize) -> Verdict<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for _ in 0..count {
        manifests.push(Manifest::of(&repository.image().await?));
    }
    Ok(manifests)
}

async fn put(repository: &Repository, reference: &str, manifest: &Manifest) -> Verdict {
    let reply = repository.put(reference, manifest).send().await?;
    reply.status(&[201])?;
    Ok(())
}

async fn one_tag(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifests = manifests(&repository, PUSHERS).await?;
    try_join_all(
        manifests
            .iter()
            .map(|manifest| put(&repository, "raced", manifest)),
    )
    .await?;
    for manifest in &manifests {
        let reply = repository.get_manifest(&manifest.digest).send().await?;
        reply.status(&[200])?.body_is(&manifest.bytes)?;
    }
    let reply = repository.get_manifest("raced").send().await?;
    reply.status(&[200])?;
    if manifests
        .iter()
        .any(|manifest| manifest.bytes == reply.body)
    {
        return Ok(());
    }
    Err(reply.fail("one of the manifests"))
}

async fn one_manifest(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    try_join_all((0..PUSHERS).map(|_| put(&repository, "v1", &manifest))).await?;
    let reply = repository.get_manifest("v1").send().await?;
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    Ok(())
}

async fn many_tags(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    let tags: Vec<String> = (0..3 * PUSHERS)
        .map(|number| format!("t{number:03}"))
        .collect();
    try_join_all(tags.iter().map(|tag| put(&repository, tag, &manifest))).await?;
    let reply = repository.tags("").await?;
    if reply.status(&[200])?.json()?["tags"] == json!(tags) {
        return Ok(());
    }
    Err(reply.fail(format!("the tags {}", json!(tags))))
}

async fn one_session(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let chunk = upload.chunk(50_000);
    let blobs = [Blob::random(chunk), Blob::random(chunk)];
    let range = format!("0-{}", chunk - 1);
    let replies = join_all(
        blobs
            .iter()
            .map(|blob| upload.patch(&range, blob.bytes.clone()).send()),
    )
    .await;
    let mut taken = Vec::new();
    for (reply, blob) in replies.into_iter().zip(&blobs) {
        let reply = reply?;
        if reply.status.is_success() {
            upload.location = reply.status(&[202])?.location()?;
            taken.push(blob);
        } else if !reply.status.is_client_error() {
            return Err(reply.fail("202 or a refusal"));
        }
    }
    let [blob] = taken[..] else {
        let got = format!("{} of them", taken.len());
        return Err(Stop::fail("two PATCH at once", "one taken", got));
    };
    upload.close(&blob.digest).send().await?.status(&[201])?;
    pulled(&repository, blob).await
}

async fn one_closing(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let chunk = upload.chunk(50_000);
    let blob = Blob::random(chunk);
    upload.append(0, blob.bytes.clone()).await?;
    let closings = (0..2).map(|_| upload.close(&blob.digest).send());
    let mut succeeded = false;
    for reply in join_all(closings).await {
        let reply = reply?;
        succeeded |= reply.status == 201;
        if reply.status != 201 && !reply.status.is_client_error() {
            return Err(reply.fail("201 or a refusal"));
        }
    }
    if !succeeded {
        return Err(Stop::fail("two closing PUTs at once", "a 201", "none"));
    }
    pulled(&repository, &blob).await
}
