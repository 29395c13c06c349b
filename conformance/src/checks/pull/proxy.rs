//! "Registry Proxying": the query parameter `ns`.

use crate::check::{Stop, Verdict, checks};
use crate::content::Blob;
use crate::reply::Reply;
use crate::scope::Scope;

checks! {
    "Registry Proxying" {
        Must Main "pull.ns.manifest" manifest:
            "a manifest is answered with `ns` as without";
        Must Main "pull.ns.blob" blob:
            "a blob is answered with `ns` as without";
        Must Main "pull.ns.tags" tags:
            "tags are listed with `ns` as without";
        Should Main "pull.ns.header" header:
            "`OCI-Namespace`, where it is answered, repeats `ns`";
    }
}

const HOST: &str = "registry.example.org";

/// The header is only for registries whose answer depends on `ns`, others leave it out.
fn repeated(reply: &Reply) -> Verdict {
    match reply.header("oci-namespace") {
        None | Some(HOST) => Ok(()),
        Some(_) => Err(reply.fail(format!("`OCI-Namespace: {HOST}` or none"))),
    }
}

/// A proxy may answer `ns` from another registry, which does not know our content.
fn not_a_proxy(reply: &Reply) -> Verdict {
    if reply.header("oci-namespace").is_some() && reply.status == 404 {
        return Err(Stop::skip(
            "the registry answers for the host that `ns` names",
        ));
    }
    Ok(())
}

async fn manifest(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    for reference in ["v1", &manifest.digest] {
        let reply = repository
            .get_manifest(reference)
            .query("ns", HOST)
            .send()
            .await?;
        not_a_proxy(&reply)?;
        reply.status(&[200])?.body_is(&manifest.bytes)?;
        let reply = repository
            .head_manifest(reference)
            .query("ns", HOST)
            .send()
            .await?;
        reply.status(&[200])?;
    }
    Ok(())
}

async fn blob(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100));
    repository.push(&blob).await?;
    let reply = repository
        .get_blob(&blob.digest)
        .query("ns", HOST)
        .send()
        .await?;
    not_a_proxy(&reply)?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn tags(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged_all(&["a", "b"]).await?;
    let reply = repository.tags(&format!("?ns={HOST}&n=1")).await?;
    not_a_proxy(&reply)?;
    reply.status(&[200])?;
    if reply.json()?["tags"] == serde_json::json!(["a"]) {
        return Ok(());
    }
    Err(reply.fail("the tag `a`"))
}

async fn header(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    let reply = repository
        .get_manifest("v1")
        .query("ns", HOST)
        .send()
        .await?;
    repeated(&reply)
}
