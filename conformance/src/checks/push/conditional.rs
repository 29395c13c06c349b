//! Conditional pushes: "Clients MAY use a conditional HTTP push for registries that support
//! ETag conditions", with the semantics of RFC 9110 section 13.

use futures::future::join_all;

use crate::check::{Stop, Verdict, checks};
use crate::content::Manifest;
use crate::reply::Reply;
use crate::scope::{Repository, Scope};

checks! {
    "Referrers Tag Schema" {
        May V1_1_1 "push.conditional.offered" offered:
            "a PUT of a tag with a condition that does not hold is refused";
    }
    "RFC 9110 13.1" {
        Must Http "push.conditional.if-none-match" if_none_match:
            "`If-None-Match: *` makes a new tag, and is 412 for one that exists";
        Must Http "push.conditional.if-match" if_match:
            "`If-Match` of the present `ETag` moves a tag, of an old one is 412";
        Must Http "push.conditional.if-match-absent" if_match_absent:
            "`If-Match` is 412 for a tag that does not exist";
        Must Http "push.conditional.if-match-any" if_match_any:
            "`If-Match: *` moves a tag that exists";
        Must Http "push.conditional.refused-changes-nothing" changes_nothing:
            "a PUT that answered 412 has changed nothing";
        Should Practice "push.conditional.tells-present" tells_present:
            "the 412 has the present `ETag`";
        Must Http "push.conditional.one-creator" one_creator:
            "of many that make one tag with `If-None-Match: *` one succeeds";
        Must Http "push.conditional.one-mover" one_mover:
            "of many that move one tag with one `If-Match` one succeeds";
    }
}

const MANY: usize = 12;

/// The `ETag` that the registry gives a tag, and a skip where it has none or does not look.
async fn tag(repository: &Repository, reference: &str) -> Verdict<String> {
    let reply = repository.get_manifest(reference).send().await?;
    match reply.status(&[200])?.header("etag") {
        Some(tag) => Ok(tag.to_owned()),
        None => Err(Stop::skip("manifests have no `ETag`")),
    }
}

async fn put(
    repository: &Repository,
    reference: &str,
    manifest: &Manifest,
    name: &'static str,
    value: &str,
) -> Verdict<Reply> {
    repository
        .put(reference, manifest)
        .header(name, value)
        .send()
        .await
}

/// A tag with its manifest and another manifest, where conditions are looked at.
async fn supported(scope: &Scope) -> Verdict<(Repository, Manifest, Manifest, String)> {
    let repository = scope.repository();
    let first = repository.tagged("v1").await?;
    let second = Manifest::of(&repository.image().await?);
    let probe = repository.tagged("probe").await?;
    let reply = put(&repository, "probe", &probe, "If-None-Match", "*").await?;
    if reply.status.is_success() {
        return Err(Stop::skip("conditions on PUT are not looked at"));
    }
    reply.status(&[412])?;
    let tag = tag(&repository, "v1").await?;
    Ok((repository, first, second, tag))
}

async fn offered(scope: Scope) -> Verdict {
    supported(&scope).await.map(drop)
}

async fn if_none_match(scope: Scope) -> Verdict {
    let (repository, first, second, _) = supported(&scope).await?;
    let reply = put(&repository, "new", &first, "If-None-Match", "*").await?;
    reply.status(&[201])?;
    let reply = put(&repository, "new", &second, "If-None-Match", "*").await?;
    reply.status(&[412])?;
    let reply = repository.get_manifest("new").send().await?;
    reply.body_is(&first.bytes)?;
    Ok(())
}

async fn if_match(scope: Scope) -> Verdict {
    let (repository, first, second, old) = supported(&scope).await?;
    let reply = put(&repository, "v1", &second, "If-Match", &old).await?;
    reply.status(&[201])?;
    let reply = put(&repository, "v1", &first, "If-Match", &old).await?;
    reply.status(&[412])?;
    let reply = repository.get_manifest("v1").send().await?;
    reply.body_is(&second.bytes)?;
    Ok(())
}

async fn if_match_absent(scope: Scope) -> Verdict {
    let (repository, _, second, old) = supported(&scope).await?;
    for condition in [old.as_str(), "*"] {
        let reply = put(&repository, "absent", &second, "If-Match", condition).await?;
        reply.status(&[412])?;
    }
    let reply = repository.get_manifest("absent").send().await?;
    reply.status(&[404])?;
    Ok(())
}

async fn if_match_any(scope: Scope) -> Verdict {
    let (repository, _, second, _) = supported(&scope).await?;
    let reply = put(&repository, "v1", &second, "If-Match", "*").await?;
    reply.status(&[201])?;
    Ok(())
}

async fn changes_nothing(scope: Scope) -> Verdict {
    let (repository, first, second, before) = supported(&scope).await?;
    let reply = put(&repository, "v1", &second, "If-Match", "\"another\"").await?;
    reply.status(&[412])?;
    let reply = put(&repository, "v1", &second, "If-None-Match", "*").await?;
    reply.status(&[412])?;
    let reply = repository.get_manifest("v1").send().await?;
    reply.body_is(&first.bytes)?.header_is("etag", &before)?;
    let reply = repository.get_manifest(&second.digest).send().await?;
    reply.status(&[404])?;
    Ok(())
}

async fn tells_present(scope: Scope) -> Verdict {
    let (repository, _, second, present) = supported(&scope).await?;
    let reply = put(&repository, "v1", &second, "If-Match", "\"another\"").await?;
    reply.status(&[412])?.header_is("etag", &present)?;
    Ok(())
}

/// Sends many different manifests to one tag at once under one condition, and holds that
/// one of them succeeded and is what the tag leads to.
async fn race(repository: &Repository, name: &'static str, value: &str) -> Verdict {
    let mut manifests = Vec::new();
    for _ in 0..MANY {
        manifests.push(Manifest::of(&repository.image().await?));
    }
    let replies = join_all(
        manifests
            .iter()
            .map(|manifest| put(repository, "raced", manifest, name, value)),
    )
    .await;
    let mut winner = None;
    for (reply, manifest) in replies.into_iter().zip(&manifests) {
        let reply = reply?;
        if reply.status(&[201, 412])?.status == 201 && winner.replace(manifest).is_some() {
            return Err(reply.fail("one 201, the others 412"));
        }
    }
    let reply = repository.get_manifest("raced").send().await?;
    match winner {
        Some(manifest) => reply.body_is(&manifest.bytes).map(drop),
        None => Err(reply.fail("one 201 of the pushes")),
    }
}

async fn one_creator(scope: Scope) -> Verdict {
    let (repository, ..) = supported(&scope).await?;
    race(&repository, "If-None-Match", "*").await
}

async fn one_mover(scope: Scope) -> Verdict {
    let (repository, first, ..) = supported(&scope).await?;
    repository.push_manifest("raced", &first).await?;
    let present = tag(&repository, "raced").await?;
    race(&repository, "If-Match", &present).await
}
