//! "Mounting a blob from another repository".

use http::Method;

use crate::check::{Stop, Verdict, checks};
use crate::content::{self, Blob};
use crate::digest::Algorithm;
use crate::reply::Reply;
use crate::scope::{Repository, Scope};
use crate::upload::Upload;

checks! {
    "Mounting a blob from another repository" {
        May V1_1_1 "push.mount.created" created:
            "a blob of another repository is mounted with 201";
        Must V1_1_1 "push.mount.location" location:
            "the 201 has `Location`, and the blob is pulled from there";
        Must V1_1_1 "push.mount.content" content:
            "a mounted blob is in the repository it was mounted to";
        Should V1_1_1 "push.mount.digest-header" digest_header:
            "`Docker-Content-Digest`, where it is there, is the blob's";
        May V1_1_1 "push.mount.without-from" without_from:
            "a blob is mounted without naming where it is";
        Should V1_1_1 "push.mount.unknown-blob" unknown_blob:
            "a mount of an unknown blob answers 202, and PUT goes on from there";
        Should V1_1_1 "push.mount.unknown-from" unknown_from:
            "a mount from an unknown repository answers 202 or mounts";
        Should V1_1_1 "push.mount.without-from-unknown" without_from_unknown:
            "a mount of a blob that is nowhere answers 202, and PUT goes on from there";
        Must V1_1_1 "push.mount.same-repository" same_repository:
            "a mount from the repository itself answers 201 or 202";
        Must Practice "push.mount.survives-source" survives_source:
            "a mounted blob stays when it is deleted where it came from";
        Should Main "push.mount.malformed" malformed:
            "a malformed digest or source is not an error of the server";
        May Main "push.mount.sha512" sha512:
            "a blob is mounted by its sha512";
    }
}

async fn mount(to: &Repository, digest: &str, from: Option<&Repository>) -> Verdict<Reply> {
    let mut request = to.post("").query("mount", digest);
    if let Some(from) = from {
        request = request.query("from", &from.name);
    }
    request.send().await
}

/// A blob in another repository, and the answer to mounting it here.
async fn mounted(scope: &Scope) -> Verdict<(Repository, Blob, Reply)> {
    let (to, from, blob) = (
        scope.repository(),
        scope.other("source"),
        Blob::random(1000),
    );
    from.push(&blob).await?;
    let reply = mount(&to, &blob.digest, Some(&from)).await?;
    match reply.status.as_u16() {
        202 => Err(Stop::skip("mounting is not offered (202)")),
        _ => {
            reply.status(&[201])?;
            Ok((to, blob, reply))
        }
    }
}

async fn pulled(repository: &Repository, blob: &Blob) -> Verdict {
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

/// Goes on by PUT where the mount was answered by a session.
async fn complete(repository: &Repository, blob: &Blob, reply: &Reply) -> Verdict {
    if reply.status(&[201, 202])?.status == 202 {
        let upload = Upload::begun(repository.clone(), reply)?;
        upload.close_with(blob, None).await?.status(&[201])?;
    }
    pulled(repository, blob).await
}

async fn created(scope: Scope) -> Verdict {
    mounted(&scope).await.map(drop)
}

async fn location(scope: Scope) -> Verdict {
    let (to, blob, reply) = mounted(&scope).await?;
    let location = reply.location()?;
    let reply = to.follow(Method::GET, &location).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn content(scope: Scope) -> Verdict {
    let (to, blob, _) = mounted(&scope).await?;
    pulled(&to, &blob).await?;
    let reply = to.head_blob(&blob.digest).send().await?;
    reply.status(&[200])?;
    Ok(())
}

async fn digest_header(scope: Scope) -> Verdict {
    let (_, blob, reply) = mounted(&scope).await?;
    if reply.header("docker-content-digest").is_some() {
        reply.header_is("docker-content-digest", &blob.digest)?;
    }
    Ok(())
}

async fn without_from(scope: Scope) -> Verdict {
    let (to, from, blob) = (
        scope.repository(),
        scope.other("source"),
        Blob::random(1000),
    );
    from.push(&blob).await?;
    let reply = mount(&to, &blob.digest, None).await?;
    if reply.status(&[201, 202])?.status == 202 {
        return Err(Stop::skip("mounting without `from` is not offered (202)"));
    }
    pulled(&to, &blob).await
}

async fn unknown_blob(scope: Scope) -> Verdict {
    let (to, from, blob) = (
        scope.repository(),
        scope.other("source"),
        Blob::random(1000),
    );
    from.push(&Blob::random(8)).await?;
    let reply = mount(&to, &blob.digest, Some(&from)).await?;
    reply.status(&[202])?;
    complete(&to, &blob, &reply).await
}

async fn unknown_from(scope: Scope) -> Verdict {
    let (to, blob) = (scope.repository(), Blob::random(1000));
    scope.other("source").push(&blob).await?;
    let reply = mount(&to, &blob.digest, Some(&scope.other("unknown"))).await?;
    complete(&to, &blob, &reply).await
}

async fn without_from_unknown(scope: Scope) -> Verdict {
    let (to, blob) = (scope.repository(), Blob::random(1000));
    let reply = mount(&to, &blob.digest, None).await?;
    reply.status(&[202])?;
    complete(&to, &blob, &reply).await
}

async fn same_repository(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    repository.push(&blob).await?;
    let reply = mount(&repository, &blob.digest, Some(&repository)).await?;
    complete(&repository, &blob, &reply).await
}

async fn survives_source(scope: Scope) -> Verdict {
    let (to, blob, _) = mounted(&scope).await?;
    let reply = scope
        .other("source")
        .blob(Method::DELETE, &blob.digest)
        .send()
        .await?;
    reply.skip_unless(&[202], "deleting blobs")?;
    pulled(&to, &blob).await
}

async fn malformed(scope: Scope) -> Verdict {
    let to = scope.repository();
    for digest in crate::checks::malformed_digests() {
        let reply = mount(&to, &digest, Some(&scope.other("source"))).await?;
        reply.status(&[202, 400, 404])?;
    }
    let reply = mount(
        &to,
        &content::unknown_digest(),
        Some(&scope.named("Upper/../case")),
    )
    .await?;
    reply.status(&[202, 400, 404])?;
    Ok(())
}

async fn sha512(scope: Scope) -> Verdict {
    let (to, from) = (scope.repository(), scope.other("source"));
    let blob = Blob::by(Algorithm::Sha512, content::random_bytes(1000));
    let upload = from.start().await?;
    let reply = upload.close_with(&blob, None).await?;
    reply.skip_unless(&[201], "sha512")?;
    let reply = mount(&to, &blob.digest, Some(&from)).await?;
    if reply.status(&[201, 202])?.status == 202 {
        return Err(Stop::skip("mounting is not offered (202)"));
    }
    pulled(&to, &blob).await
}
