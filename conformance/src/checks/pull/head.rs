//! "Checking if content exists in the registry".

use crate::check::{Verdict, checks};
use crate::content::{self, Blob};
use crate::reply::Reply;
use crate::scope::Scope;

checks! {
    "Checking if content exists in the registry" {
        Must V1_1_1 "pull.manifest.head.exists" manifest_exists:
            "HEAD of a manifest answers 200 by tag and by digest";
        Should V1_1_1 "pull.manifest.head.digest-header" manifest_digest:
            "HEAD of a manifest answers its digest";
        Must Main "pull.manifest.head.digest-header-required" manifest_digest:
            "HEAD of a manifest answers its digest, always";
        Should V1_1_1 "pull.manifest.head.length" manifest_length:
            "HEAD of a manifest answers its length";
        Must Main "pull.manifest.head.length-required" manifest_length:
            "HEAD of a manifest answers its length, always";
        Must V1_1_1 "pull.manifest.head.unknown" manifest_unknown:
            "HEAD of an unknown manifest is 404";
    }
    "RFC 9110 9.3.2" {
        Should Http "pull.manifest.head.parity" manifest_parity:
            "HEAD of a manifest has the headers of GET";
    }
    "Checking if content exists in the registry" {
        Must V1_1_1 "pull.blob.head.exists" blob_exists:
            "HEAD of a blob answers 200";
        Should V1_1_1 "pull.blob.head.digest-header" blob_digest:
            "HEAD of a blob answers its digest";
        Must Main "pull.blob.head.digest-header-required" blob_digest:
            "HEAD of a blob answers its digest, always";
        Should V1_1_1 "pull.blob.head.length" blob_length:
            "HEAD of a blob answers its length";
        Must Main "pull.blob.head.length-required" blob_length:
            "HEAD of a blob answers its length, always";
        Must V1_1_1 "pull.blob.head.unknown" blob_unknown:
            "HEAD of an unknown blob is 404";
    }
    "RFC 9110 9.3.2" {
        Should Http "pull.blob.head.parity" blob_parity:
            "HEAD of a blob has the headers of GET";
    }
}

/// Headers that tell about the content, so that HEAD and GET must agree on them.
const TELLING: [&str; 6] = [
    "content-type",
    "content-length",
    "docker-content-digest",
    "etag",
    "accept-ranges",
    "last-modified",
];

fn parity(head: &Reply, get: &Reply) -> Verdict {
    get.status(&[200])?;
    head.status(&[200])?;
    if !head.body.is_empty() {
        return Err(head.fail("no body"));
    }
    for name in TELLING {
        if head.header(name) != get.header(name) {
            let wanted = get.header(name).unwrap_or("absent");
            return Err(head.fail(format!("`{name}` as on GET, which is {wanted}")));
        }
    }
    Ok(())
}

async fn manifest_exists(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    for reference in ["v1", &manifest.digest] {
        let reply = repository.head_manifest(reference).send().await?;
        reply.status(&[200])?;
    }
    Ok(())
}

async fn manifest_digest(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    for reference in ["v1", &manifest.digest] {
        let reply = repository.head_manifest(reference).send().await?;
        reply
            .status(&[200])?
            .header_is("docker-content-digest", &manifest.digest)?;
    }
    Ok(())
}

async fn manifest_length(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    for reference in ["v1", &manifest.digest] {
        let reply = repository.head_manifest(reference).send().await?;
        reply
            .status(&[200])?
            .header_is("content-length", &manifest.bytes.len().to_string())?;
    }
    Ok(())
}

async fn manifest_unknown(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    for reference in ["v2", &content::unknown_digest()] {
        let reply = repository.head_manifest(reference).send().await?;
        reply.status(&[404])?;
    }
    let reply = scope.other("unknown").head_manifest("v1").send().await?;
    reply.status(&[404])?;
    Ok(())
}

async fn manifest_parity(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    for reference in ["v1", &manifest.digest] {
        let head = repository.head_manifest(reference).send().await?;
        let get = repository.get_manifest(reference).send().await?;
        parity(&head, &get)?;
    }
    Ok(())
}

async fn blob_exists(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100));
    repository.push(&blob).await?;
    let reply = repository.head_blob(&blob.digest).send().await?;
    reply.status(&[200])?;
    Ok(())
}

async fn blob_digest(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100));
    repository.push(&blob).await?;
    let reply = repository.head_blob(&blob.digest).send().await?;
    reply
        .status(&[200])?
        .header_is("docker-content-digest", &blob.digest)?;
    Ok(())
}

async fn blob_length(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100));
    repository.push(&blob).await?;
    let reply = repository.head_blob(&blob.digest).send().await?;
    reply.status(&[200])?.header_is("content-length", "100")?;
    Ok(())
}

async fn blob_unknown(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.push(&Blob::random(8)).await?;
    for repository in [repository, scope.other("unknown")] {
        let reply = repository
            .head_blob(&content::unknown_digest())
            .send()
            .await?;
        reply.status(&[404])?;
    }
    Ok(())
}

async fn blob_parity(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100));
    repository.push(&blob).await?;
    let head = repository.head_blob(&blob.digest).send().await?;
    let get = repository.get_blob(&blob.digest).send().await?;
    parity(&head, &get)
}
