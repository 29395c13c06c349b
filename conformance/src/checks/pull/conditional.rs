//! Conditional reads: RFC 9110 section 13, which the specification refers to for
//! whatever it does not define itself.

use http::Method;

use crate::check::{Stop, Verdict, checks};
use crate::content::{Blob, Manifest};
use crate::reply::Reply;
use crate::scope::{Repository, Scope};

checks! {
    "RFC 9110 8.8.3" {
        May Http "pull.manifest.etag.present" present:
            "a manifest has a strong `ETag`";
        Must Http "pull.manifest.etag.changes" changes:
            "a tag that moves has another `ETag`";
    }
    "RFC 9110 13.1.2" {
        Should Http "pull.manifest.etag.not-modified" not_modified:
            "`If-None-Match` of the present `ETag` is 304 without a body";
        Should Http "pull.manifest.etag.not-modified-head" not_modified_head:
            "`If-None-Match` holds for HEAD too";
        Should Http "pull.manifest.etag.not-modified-list" not_modified_list:
            "`If-None-Match` may be a list, weak tags, or `*`";
        Must Http "pull.manifest.etag.modified" modified:
            "`If-None-Match` of another tag answers 200 and the manifest";
        Should Http "pull.blob.etag.not-modified" blob_not_modified:
            "a blob answers `If-None-Match` with 304";
    }
}

/// The present `ETag` of a reference; without one these rules have nothing to hold on to.
async fn tag(repository: &Repository, reference: &str) -> Verdict<String> {
    let reply = repository.get_manifest(reference).send().await?;
    match reply.status(&[200])?.header("etag") {
        Some(tag) => Ok(tag.to_owned()),
        None => Err(Stop::skip("manifests have no `ETag`")),
    }
}

async fn ask(
    repository: &Repository,
    method: Method,
    reference: &str,
    tags: &str,
) -> Verdict<Reply> {
    repository
        .manifest(method, reference)
        .header("Accept", crate::scope::ACCEPT)
        .header("If-None-Match", tags)
        .send()
        .await
}

fn unchanged(reply: &Reply, tag: &str) -> Verdict {
    reply.status(&[304])?.header_is("etag", tag)?;
    if reply.body.is_empty() {
        return Ok(());
    }
    Err(reply.fail("no body"))
}

async fn present(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    let tag = tag(&repository, "v1").await?;
    if tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"') {
        return Ok(());
    }
    Err(Stop::fail(
        "GET of a tag",
        "a strong `ETag`, in quotes",
        tag,
    ))
}

async fn changes(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    let before = tag(&repository, "v1").await?;
    repository.tagged("v1").await?;
    let after = tag(&repository, "v1").await?;
    if before == after {
        return Err(Stop::fail(
            "GET of a tag that moved",
            "another `ETag`",
            after,
        ));
    }
    Ok(())
}

async fn not_modified(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    for reference in ["v1", &manifest.digest] {
        let tag = tag(&repository, reference).await?;
        let reply = ask(&repository, Method::GET, reference, &tag).await?;
        unchanged(&reply, &tag)?;
    }
    Ok(())
}

async fn not_modified_head(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    let tag = tag(&repository, "v1").await?;
    let reply = ask(&repository, Method::HEAD, "v1", &tag).await?;
    unchanged(&reply, &tag)
}

async fn not_modified_list(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    let tag = tag(&repository, "v1").await?;
    for tags in [
        format!("\"another\", {tag}"),
        format!("W/{tag}"),
        "*".into(),
    ] {
        let reply = ask(&repository, Method::GET, "v1", &tags).await?;
        unchanged(&reply, &tag)?;
    }
    Ok(())
}

async fn modified(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let first: Manifest = repository.tagged("v1").await?;
    let old = format!("\"{}\"", first.digest);
    let second = repository.tagged("v1").await?;
    for tags in [old.as_str(), "\"another\""] {
        let reply = ask(&repository, Method::GET, "v1", tags).await?;
        reply.status(&[200])?.body_is(&second.bytes)?;
    }
    Ok(())
}

async fn blob_not_modified(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100));
    repository.push(&blob).await?;
    let plain = repository.get_blob(&blob.digest).send().await?;
    let Some(tag) = plain.header("etag") else {
        return Err(Stop::skip("blobs have no `ETag`"));
    };
    let reply = repository
        .get_blob(&blob.digest)
        .header("If-None-Match", tag)
        .send()
        .await?;
    unchanged(&reply, tag)
}
