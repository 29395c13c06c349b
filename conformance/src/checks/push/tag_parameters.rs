//! Tags named in the query of a push by digest: "Pushing Manifests", end-7b.

use std::collections::BTreeSet;

use serde_json::json;

use crate::check::{Stop, Verdict, checks};
use crate::content::{self, Manifest};
use crate::digest::Algorithm;
use crate::reply::Reply;
use crate::scope::{Repository, Scope};

checks! {
    "Pushing Manifests" {
        May Main "push.tag-parameter.supported" supported_at_all:
            "tags named in the query of a push by digest are made";
        Must Main "push.tag-parameter.header" header:
            "`OCI-Tag` names each accepted tag";
        Must Main "push.tag-parameter.pulled" pulled:
            "the manifest is pulled by each accepted tag";
        Should Main "push.tag-parameter.ten" ten:
            "ten tags in one request are accepted";
        May Main "push.tag-parameter.too-many" too_many:
            "very many tags are accepted, or 414, 431 or 400";
        Must Main "push.tag-parameter.moves" moves:
            "a tag that exists moves";
        Must Main "push.tag-parameter.none" none:
            "a push without tags in the query is answered without `OCI-Tag`";
        Must Main "push.tag-parameter.malformed" malformed:
            "a tag outside the grammar is not accepted";
        May Main "push.tag-parameter.sha512" sha512:
            "tags are made with a push by sha512";
    }
}

async fn push(repository: &Repository, manifest: &Manifest, tags: &[String]) -> Verdict<Reply> {
    let mut request = repository.put(&manifest.digest, manifest);
    for tag in tags {
        request = request.query("tag", tag);
    }
    request.send().await
}

/// The tags that every `OCI-Tag` header of an answer names.
fn accepted(reply: &Reply) -> BTreeSet<String> {
    reply
        .headers
        .get_all("oci-tag")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().to_owned())
        .filter(|tag| !tag.is_empty())
        .collect()
}

/// Pushes with tags; a registry that answers no `OCI-Tag` does not offer this.
async fn supported(
    repository: &Repository,
    manifest: &Manifest,
    tags: &[String],
) -> Verdict<Reply> {
    let reply = push(repository, manifest, tags).await?;
    reply.status(&[201])?;
    if accepted(&reply).is_empty() {
        return Err(Stop::skip(
            "tags in the query are not offered (no `OCI-Tag`)",
        ));
    }
    Ok(reply)
}

fn names(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("tag-{number:04}"))
        .collect()
}

async fn supported_at_all(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    supported(&repository, &manifest, &names(1)).await.map(drop)
}

/// Holds that all of `tags` were accepted and lead to the manifest.
async fn all_made(repository: &Repository, manifest: &Manifest, tags: &[String]) -> Verdict {
    let reply = supported(repository, manifest, tags).await?;
    if accepted(&reply) != tags.iter().cloned().collect() {
        return Err(reply.fail(format!("`OCI-Tag` with {}", tags.join(", "))));
    }
    for tag in tags {
        let reply = repository.get_manifest(tag).send().await?;
        reply.status(&[200])?.body_is(&manifest.bytes)?;
    }
    Ok(())
}

async fn header(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    let tags = names(3);
    let reply = supported(&repository, &manifest, &tags).await?;
    let listed = repository.tags("").await?;
    let listed = listed.status(&[200])?.json()?;
    if json!(accepted(&reply)) == listed["tags"] {
        return Ok(());
    }
    Err(reply.fail(format!(
        "`OCI-Tag` with the tags that were made, {}",
        listed["tags"]
    )))
}

async fn pulled(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    all_made(&repository, &manifest, &names(3)).await
}

async fn ten(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    all_made(&repository, &manifest, &names(10)).await
}

async fn too_many(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    supported(&repository, &manifest, &names(1)).await?;
    // 90 answers in headers of their own are still below the hundred that many clients read.
    let long: Vec<String> = (0..90)
        .map(|number| format!("{number:02}{}", "t".repeat(120)))
        .collect();
    let reply = push(&repository, &manifest, &long).await?;
    reply.status(&[201, 400, 414, 431])?;
    Ok(())
}

async fn moves(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("tag-0000").await?;
    let manifest = Manifest::of(&repository.image().await?);
    all_made(&repository, &manifest, &names(2)).await
}

async fn none(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    let reply = push(&repository, &manifest, &[]).await?;
    reply.status(&[201])?.header_absent("oci-tag")?;
    Ok(())
}

async fn malformed(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    supported(&repository, &manifest, &names(1)).await?;
    for tag in ["-a", ".a", "a b", &"t".repeat(129)] {
        let reply = push(&repository, &manifest, &[tag.to_owned()]).await?;
        reply.status(&[201, 400])?.header_absent("oci-tag")?;
    }
    let listed = repository.tags("").await?;
    if listed.status(&[200])?.json()?["tags"] == json!(names(1)) {
        return Ok(());
    }
    Err(listed.fail("only the tag `tag-0000`"))
}

async fn sha512(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let image = repository.image().await?;
    let manifest = Manifest::by(Algorithm::Sha512, content::IMAGE, image.to_string());
    let probe = push(&repository, &manifest, &[]).await?;
    probe.skip_unless(&[201], "sha512")?;
    all_made(&repository, &manifest, &names(2)).await?;
    let reply = repository.head_manifest("tag-0000").send().await?;
    reply
        .status(&[200])?
        .header_is("docker-content-digest", &manifest.digest)?;
    Ok(())
}
