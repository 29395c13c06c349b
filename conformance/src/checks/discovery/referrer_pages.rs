//! "Listing Referrers", page by page.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};

use super::referrers::{artifact, descriptors, offered};
use crate::check::{Stop, Verdict, checks};
use crate::content::{self, Manifest};
use crate::reply::Reply;
use crate::scope::{Repository, Scope};

checks! {
    "Listing Referrers" {
        Must V1_1_1 "discovery.referrers.pages.many" many:
            "a hundred referrers are listed whole, or page by page, each once";
        Must V1_1_1 "discovery.referrers.pages.large" large:
            "referrers that fill more than 4 MiB are listed whole, or page by page, each once";
        Should Practice "discovery.referrers.pages.bounded" bounded:
            "no page is larger than 4 MiB, which is what clients read of a manifest";
        Must V1_1_1 "discovery.referrers.pages.filter" filter:
            "a filter holds on every page";
        May Practice "discovery.referrers.pages.n" by_n:
            "`n` bounds a page, and `Link` leads to the next";
    }
}

const FOUR_MIB: usize = 4 << 20;
/// More pages than any of these lists can have.
const PAGES: usize = 1000;

/// A subject with `count` referrers, each with `padding` bytes of annotation; every second
/// is of type `even`.
async fn prepared(
    scope: &Scope,
    count: usize,
    padding: usize,
) -> Verdict<(Repository, Manifest, BTreeSet<String>)> {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    offered(&repository, &subject.digest, "").await?;
    let model = artifact(&repository, &subject, "odd", json!({})).await?;
    let mut value: Value = serde_json::from_slice(&model.bytes).unwrap_or_default();
    let mut digests = BTreeSet::new();
    for number in 0..count {
        value["artifactType"] = json!(format!("application/vnd.example.{}", parity(number)));
        value["annotations"] = json!({
            "number": number.to_string(),
            "padding": "p".repeat(padding),
        });
        let manifest = Manifest::of(&value);
        repository
            .push_manifest(&manifest.digest, &manifest)
            .await?;
        digests.insert(manifest.digest);
    }
    Ok((repository, subject, digests))
}

fn parity(number: usize) -> &'static str {
    if number.is_multiple_of(2) {
        "even"
    } else {
        "odd"
    }
}

/// Every page from a first query on, following `Link`.
async fn follow(repository: &Repository, subject: &Manifest, query: &str) -> Verdict<Vec<Reply>> {
    let mut reply = offered(repository, &subject.digest, query).await?;
    let mut pages = Vec::new();
    loop {
        reply
            .status(&[200])?
            .header_is("content-type", content::INDEX)?;
        let next = reply.next()?;
        pages.push(reply);
        let Some(next) = next else { return Ok(pages) };
        if pages.len() > PAGES {
            return Err(Stop::fail(next, "an end of the pages", "more of them"));
        }
        reply = repository.follow(Method::GET, &next).send().await?;
    }
}

/// Holds that the pages list each of `wanted` once and nothing else.
fn complete(pages: &[Reply], wanted: &BTreeSet<String>) -> Verdict {
    let mut found = BTreeSet::new();
    let mut count = 0;
    for page in pages {
        for one in descriptors(page)? {
            count += 1;
            found.insert(one["digest"].as_str().unwrap_or_default().to_owned());
        }
    }
    if found == *wanted && count == wanted.len() {
        return Ok(());
    }
    Err(Stop::fail(
        "GET of the referrers, following `Link`",
        format!("{} referrers, each once", wanted.len()),
        format!(
            "{count} on {} pages, {} of them different",
            pages.len(),
            found.len()
        ),
    ))
}

async fn many(scope: Scope) -> Verdict {
    let (repository, subject, digests) = prepared(&scope, 100, 0).await?;
    complete(&follow(&repository, &subject, "").await?, &digests)
}

async fn large(scope: Scope) -> Verdict {
    let (repository, subject, digests) = prepared(&scope, 24, 200_000).await?;
    complete(&follow(&repository, &subject, "").await?, &digests)
}

async fn bounded(scope: Scope) -> Verdict {
    let (repository, subject, _) = prepared(&scope, 24, 200_000).await?;
    for page in follow(&repository, &subject, "").await? {
        if page.body.len() > FOUR_MIB {
            return Err(page.fail(format!("at most {FOUR_MIB} bytes, not {}", page.body.len())));
        }
    }
    Ok(())
}

async fn filter(scope: Scope) -> Verdict {
    let (repository, subject, _) = prepared(&scope, 30, 200_000).await?;
    let query = "?artifactType=application/vnd.example.even";
    let pages = follow(&repository, &subject, query).await?;
    if pages[0].header("oci-filters-applied").is_none() {
        return Err(Stop::skip("SHOULD not followed: filtering is not offered"));
    }
    let mut count = 0;
    for page in &pages {
        for one in descriptors(page)? {
            count += 1;
            if one["artifactType"] != json!("application/vnd.example.even") {
                return Err(page.fail("only referrers of the type that was asked for"));
            }
        }
    }
    match count {
        15 => Ok(()),
        _ => Err(pages[0].fail(format!("15 referrers over all pages, not {count}"))),
    }
}

async fn by_n(scope: Scope) -> Verdict {
    let (repository, subject, digests) = prepared(&scope, 7, 0).await?;
    let pages = follow(&repository, &subject, "?n=2").await?;
    if pages.len() == 1 {
        return Err(Stop::skip("`n` is not offered for referrers"));
    }
    for page in &pages {
        if descriptors(page)?.len() > 2 {
            return Err(page.fail("two referrers at most"));
        }
    }
    complete(&pages, &digests)
}
