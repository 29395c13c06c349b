//! `_catalog`, which the specification reserves and crane, oras and regctl ask for.

use http::Method;
use serde_json::Value;

use crate::check::{Stop, Verdict, checks};
use crate::content::Blob;
use crate::reply::Reply;
use crate::scope::Scope;

checks! {
    "Docker Registry HTTP API: Listing Repositories" {
        May Practice "extensions.catalog.list" list:
            "repositories are listed at `/v2/_catalog`";
        Must Practice "extensions.catalog.contains" contains:
            "a repository that has a manifest is listed";
        Must Practice "extensions.catalog.n" first:
            "`n` bounds a page";
        Must Practice "extensions.catalog.last" after_last:
            "`last` answers the repositories after it, without it";
        Must Practice "extensions.catalog.link" link:
            "a page that is not the last has `Link`, and the pages make up the list";
        Should Practice "extensions.catalog.malformed" malformed:
            "an `n` that is no number is 400 or ignored";
        Should Practice "extensions.catalog.order" order:
            "repositories are in order";
    }
}

/// More pages than a check would ever follow.
const PAGES: usize = 100;

async fn ask(scope: &Scope, query: &str) -> Verdict<Reply> {
    let reply = scope
        .registry
        .request(Method::GET, &format!("/v2/_catalog{query}"))
        .send()
        .await?;
    if matches!(reply.status.as_u16(), 401 | 403) {
        return Err(Stop::skip(format!(
            "the catalog is not offered ({})",
            reply.status
        )));
    }
    reply.skip_unless(&[200], "the catalog")?;
    Ok(reply)
}

fn names(reply: &Reply) -> Verdict<Vec<String>> {
    let value: Value = reply.json()?;
    serde_json::from_value(value["repositories"].clone())
        .map_err(|_| reply.fail("`repositories` as a list of texts"))
}

/// Five repositories with content, in order, and a name that comes before all of them.
///
/// Other checks make repositories at the same time, so lists are looked at from that name
/// on, and only as far as these five.
async fn prepared(scope: &Scope) -> Verdict<(Vec<String>, String)> {
    let parent = scope.repository().name;
    let mut made = Vec::new();
    for letter in ["a", "b", "c", "d", "e"] {
        let repository = scope.named(&format!("{parent}/{letter}"));
        repository.push(&Blob::random(10)).await?;
        repository.tagged("v1").await?;
        made.push(repository.name);
    }
    Ok((made, format!("{parent}/0")))
}

async fn list(scope: Scope) -> Verdict {
    scope.repository().tagged("v1").await?;
    names(&ask(&scope, "").await?).map(drop)
}

async fn contains(scope: Scope) -> Verdict {
    let (made, before) = prepared(&scope).await?;
    let reply = ask(&scope, &format!("?n=5&last={before}")).await?;
    if names(&reply)? == made {
        return Ok(());
    }
    Err(reply.fail(format!("{made:?}")))
}

async fn first(scope: Scope) -> Verdict {
    let (made, before) = prepared(&scope).await?;
    let reply = ask(&scope, &format!("?n=2&last={before}")).await?;
    if names(&reply)? == made[..2] {
        return Ok(());
    }
    Err(reply.fail(format!("{:?}", &made[..2])))
}

async fn after_last(scope: Scope) -> Verdict {
    let (made, _) = prepared(&scope).await?;
    let reply = ask(&scope, &format!("?n=2&last={}", made[1])).await?;
    if names(&reply)? == made[2..4] {
        return Ok(());
    }
    Err(reply.fail(format!("{:?}", &made[2..4])))
}

async fn link(scope: Scope) -> Verdict {
    let (made, before) = prepared(&scope).await?;
    let mut reply = ask(&scope, &format!("?n=2&last={before}")).await?;
    let mut found: Vec<String> = Vec::new();
    for _ in 0..PAGES {
        found.extend(names(&reply)?);
        if found.len() >= made.len() {
            break;
        }
        match reply.next()? {
            Some(next) => {
                reply = scope.registry.request(Method::GET, &next).send().await?;
            }
            None => return Err(reply.fail("a `Link` to the next page")),
        }
    }
    if found.starts_with(&made) {
        return Ok(());
    }
    Err(reply.fail(format!("{made:?} over the pages, not {found:?}")))
}

async fn malformed(scope: Scope) -> Verdict {
    prepared(&scope).await?;
    ask(&scope, "?n=1").await?;
    for query in ["?n=x", "?n=-1", "?n="] {
        let request = scope
            .registry
            .request(Method::GET, &format!("/v2/_catalog{query}"));
        request.send().await?.status(&[200, 400])?;
    }
    Ok(())
}

async fn order(scope: Scope) -> Verdict {
    prepared(&scope).await?;
    let reply = ask(&scope, "?n=100").await?;
    if names(&reply)?.is_sorted() {
        return Ok(());
    }
    Err(reply.fail("repositories in order"))
}
