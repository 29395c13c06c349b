//! "Deleting tags".

use serde_json::json;

use crate::check::{Stop, Verdict, checks};
use crate::reply::Reply;
use crate::scope::{Repository, Scope};

checks! {
    "Deleting tags" {
        May V1_1_1 "management.tag.delete" offered:
            "a tag is deleted with 202";
        Must V1_1_1 "management.tag.disabled" disabled:
            "where tags are not deleted the answer is 400 or 405";
        Must V1_1_1 "management.tag.gone" gone:
            "a deleted tag is 404 and not listed";
        Must V1_1_1 "management.tag.siblings" siblings:
            "other tags of the manifest and the manifest itself stay";
        Should V1_1_1 "management.tag.unknown" unknown:
            "deleting an unknown tag is 404";
        Must V1_1_1 "management.tag.again" again:
            "a deleted tag can be made again";
        Must V1_1_1 "management.tag.last-one" last_one:
            "a repository whose last tag was deleted answers an empty list";
    }
}

async fn delete(repository: &Repository, tag: &str) -> Verdict<Reply> {
    let reply = repository.delete_manifest(tag).send().await?;
    if matches!(reply.status.as_u16(), 400 | 405) {
        return Err(Stop::skip(format!(
            "deleting tags is not offered ({})",
            reply.status
        )));
    }
    reply.status(&[202])?;
    Ok(reply)
}

async fn offered(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    delete(&repository, "v1").await.map(drop)
}

async fn disabled(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    let reply = repository.delete_manifest("v1").send().await?;
    reply.status(&[202, 400, 405])?;
    Ok(())
}

async fn gone(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged_all(&["keep", "v1"]).await?;
    delete(&repository, "v1").await?;
    repository.get_manifest("v1").send().await?.status(&[404])?;
    repository
        .head_manifest("v1")
        .send()
        .await?
        .status(&[404])?;
    let reply = repository.tags("").await?;
    if reply.status(&[200])?.json()?["tags"] == json!(["keep"]) {
        return Ok(());
    }
    Err(reply.fail("the tag `keep`"))
}

async fn siblings(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged_all(&["a", "b"]).await?;
    delete(&repository, "a").await?;
    for reference in ["b", &manifest.digest] {
        let reply = repository.get_manifest(reference).send().await?;
        reply.status(&[200])?.body_is(&manifest.bytes)?;
    }
    Ok(())
}

async fn unknown(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged_all(&["a", "v1"]).await?;
    delete(&repository, "v1").await?;
    for tag in ["v1", "never"] {
        let reply = repository.delete_manifest(tag).send().await?;
        reply.status(&[404])?;
    }
    Ok(())
}

async fn again(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    delete(&repository, "v1").await?;
    let manifest = repository.tagged("v1").await?;
    let reply = repository.get_manifest("v1").send().await?;
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    Ok(())
}

async fn last_one(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    delete(&repository, "v1").await?;
    let reply = repository.tags("").await?;
    let value = reply.status(&[200])?.json()?;
    if value["tags"].is_null() || value["tags"] == json!([]) {
        return Ok(());
    }
    Err(reply.fail("no tags"))
}
