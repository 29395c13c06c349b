//! "Listing Tags", without pages.

use serde_json::json;

use crate::check::{Verdict, checks};
use crate::content::{Blob, Manifest};
use crate::reply::Reply;
use crate::scope::Scope;

checks! {
    "Listing Tags" {
        Must V1_1_1 "discovery.tags.list" list:
            "the tags of a repository are listed with its name";
        Must V1_1_1 "discovery.tags.order" order:
            "tags are in lexical or in ASCII order";
        Should V1_1_1 "discovery.tags.content-type" content_type:
            "the list is `application/json`";
        Must V1_1_1 "discovery.tags.none" none:
            "a repository without tags answers an empty list";
        Should V1_1_1 "discovery.tags.unknown" unknown:
            "the tags of an unknown repository are 404";
        Must Practice "discovery.tags.at-once" at_once:
            "a tag is listed as soon as its push was answered";
        Must Practice "discovery.tags.once" once:
            "a tag that moved is listed once";
    }
    "Error Codes" {
        Should V1_1_1 "discovery.tags.unknown-code" unknown_code:
            "an unknown repository is `NAME_UNKNOWN`";
    }
}

/// The tags of a list, held against its form.
pub(super) fn listed(reply: &Reply) -> Verdict<Vec<String>> {
    let value = reply.status(&[200])?.json()?;
    match serde_json::from_value(value["tags"].clone()) {
        Ok(tags) => Ok(tags),
        Err(_) => Err(reply.fail("`tags` as a list of texts")),
    }
}

async fn list(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged_all(&["c", "a", "b"]).await?;
    let reply = repository.tags("").await?;
    reply.status(&[200])?;
    let wanted = json!({"name": repository.name, "tags": ["a", "b", "c"]});
    let value = reply.json()?;
    if value["name"] == wanted["name"] && value["tags"] == wanted["tags"] {
        return Ok(());
    }
    Err(reply.fail(wanted.to_string()))
}

async fn order(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository
        .tagged_all(&["b", "A", "a1", "B", "a", "_x", "1", "10", "2"])
        .await?;
    let reply = repository.tags("").await?;
    let tags = listed(&reply)?;
    let ascii = tags.is_sorted();
    let lexical = tags.is_sorted_by_key(|tag| tag.to_lowercase());
    if tags.len() == 9 && (ascii || lexical) {
        return Ok(());
    }
    Err(reply.fail("the nine tags in lexical or ASCII order"))
}

async fn content_type(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    let reply = repository.tags("").await?;
    let value = reply.status(&[200])?.required("content-type")?;
    if value.split(';').next() == Some("application/json") {
        return Ok(());
    }
    Err(reply.fail("the Content-Type `application/json`"))
}

async fn none(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    repository
        .push_manifest(&manifest.digest, &manifest)
        .await?;
    let reply = repository.tags("").await?;
    let value = reply.status(&[200])?.json()?;
    if value["tags"].is_null() || value["tags"] == json!([]) {
        return Ok(());
    }
    Err(reply.fail("no tags"))
}

async fn unknown(scope: Scope) -> Verdict {
    scope.repository().tags("").await?.status(&[404])?;
    Ok(())
}

async fn unknown_code(scope: Scope) -> Verdict {
    let reply = scope.repository().tags("").await?;
    reply.status(&[404])?.error_is(&["NAME_UNKNOWN"])?;
    Ok(())
}

async fn at_once(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.push(&Blob::random(8)).await?;
    let manifest = Manifest::of(&repository.image().await?);
    let mut wanted = Vec::new();
    for tag in ["a", "b", "c", "d"] {
        repository.push_manifest(tag, &manifest).await?;
        wanted.push(tag.to_owned());
        let reply = repository.tags("").await?;
        if listed(&reply)? != wanted {
            return Err(reply.fail(format!("the tags {wanted:?}")));
        }
    }
    Ok(())
}

async fn once(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    repository.tagged("v1").await?;
    let reply = repository.tags("").await?;
    if listed(&reply)? == ["v1"] {
        return Ok(());
    }
    Err(reply.fail("the tag `v1` once"))
}
