//! "Single POST": a blob in one request.

use http::Method;

use crate::check::{Stop, Verdict, checks};
use crate::content::Blob;
use crate::digest::Algorithm;
use crate::reply::Reply;
use crate::scope::{Repository, Scope};
use crate::upload::Upload;

checks! {
    "Single POST" {
        May V1_1_1 "push.blob.post.created" created:
            "POST with digest and body answers 201";
        Must V1_1_1 "push.blob.post.location" location:
            "the 201 has `Location`, and the blob is pulled from there";
        Should V1_1_1 "push.blob.post.fallback" fallback:
            "a registry without this answers 202, and PUT goes on from there";
        Must V1_1_1 "push.blob.post.empty" empty:
            "a blob of no bytes is pushed in one request, or by PUT after a 202";
        May Main "push.blob.post.sha512" sha512:
            "a blob is pushed in one request by its sha512";
    }
    "Pushing blobs" {
        Must V1_1_1 "push.blob.post.mismatch" mismatch:
            "a body that does not fit the digest is refused and not stored";
        Should Main "push.blob.post.mismatch-status" mismatch_status:
            "a body that does not fit the digest is 400";
        Should Main "push.blob.post.malformed" malformed:
            "a malformed digest is 400";
    }
}

async fn post(repository: &Repository, digest: &str, blob: &Blob) -> Verdict<Reply> {
    repository
        .post("")
        .query("digest", digest)
        .header("Content-Type", "application/octet-stream")
        .body(blob.bytes.clone())
        .send()
        .await
}

/// The answer where the registry takes such a POST at all.
async fn supported(repository: &Repository, blob: &Blob) -> Verdict<Reply> {
    let reply = post(repository, &blob.digest, blob).await?;
    match reply.status.as_u16() {
        202 => Err(Stop::skip("a blob in one POST is not offered (202)")),
        _ => reply.status(&[201]).map(drop).map(|()| reply),
    }
}

/// Goes on by PUT where the registry answered 202.
async fn complete(repository: &Repository, blob: &Blob, reply: &Reply) -> Verdict {
    if reply.status(&[201, 202])?.status == 202 {
        let upload = Upload::begun(repository.clone(), reply)?;
        upload.close_with(blob, None).await?.status(&[201])?;
    }
    let pulled = repository.get_blob(&blob.digest).send().await?;
    pulled.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn created(scope: Scope) -> Verdict {
    supported(&scope.repository(), &Blob::random(1000))
        .await
        .map(drop)
}

async fn location(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    let location = supported(&repository, &blob).await?.location()?;
    let reply = repository.follow(Method::GET, &location).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn fallback(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    let reply = post(&repository, &blob.digest, &blob).await?;
    complete(&repository, &blob, &reply).await
}

async fn empty(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(0));
    let reply = post(&repository, &blob.digest, &blob).await?;
    complete(&repository, &blob, &reply).await
}

async fn sha512(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let blob = Blob::by(Algorithm::Sha512, crate::content::random_bytes(1000));
    let reply = post(&repository, &blob.digest, &blob).await?;
    reply.skip_unless(&[201, 202], "sha512")?;
    complete(&repository, &blob, &reply).await
}

async fn mismatch(scope: Scope) -> Verdict {
    let (repository, blob, other) = (scope.repository(), Blob::random(1000), Blob::random(1000));
    let reply = post(&repository, &other.digest, &blob).await?;
    if reply.status.is_success() && reply.status != 202 {
        return Err(reply.fail("a refusal"));
    }
    for digest in [&blob.digest, &other.digest] {
        let reply = repository.get_blob(digest).send().await?;
        reply.status(&[404])?;
    }
    Ok(())
}

async fn mismatch_status(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    let reply = post(&repository, &Blob::random(1000).digest, &blob).await?;
    if reply.status == 202 {
        return Err(Stop::skip("a blob in one POST is not offered (202)"));
    }
    reply.status(&[400])?;
    Ok(())
}

async fn malformed(scope: Scope) -> Verdict {
    let repository = scope.repository();
    supported(&repository, &Blob::random(1000)).await?;
    for digest in crate::checks::malformed_digests() {
        let reply = post(&repository, &digest, &Blob::random(10)).await?;
        reply.status(&[400])?;
    }
    Ok(())
}
