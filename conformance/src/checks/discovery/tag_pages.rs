//! "Listing Tags", page by page: `n`, `last` and `Link`.

use http::Method;

use super::tags::listed;
use crate::check::{Stop, Verdict, checks};
use crate::content::Manifest;
use crate::reply::Reply;
use crate::scope::{Repository, Scope};

checks! {
    "Listing Tags" {
        Must V1_1_1 "discovery.tags.n.first" first:
            "`n` answers that many tags from the beginning";
        Must V1_1_1 "discovery.tags.n.beyond" beyond:
            "an `n` beyond the number of tags answers all of them";
        Must V1_1_1 "discovery.tags.n.zero" zero:
            "`n=0` answers an empty list without `Link`";
        Should V1_1_1 "discovery.tags.n.malformed" malformed:
            "an `n` that is no number is 400 or ignored";
        Should Practice "discovery.tags.n.huge" huge:
            "an `n` beyond 32 bits answers tags or is 400";
        Must V1_1_1 "discovery.tags.last.exclusive" exclusive:
            "`last` with `n` answers the tags after it, without it";
        Must V1_1_1 "discovery.tags.last.alone" alone:
            "`last` without `n` answers all tags after it";
        Must V1_1_1 "discovery.tags.last.not-a-tag-there" not_there:
            "`last` may be a tag that is not there (any more)";
        Must V1_1_1 "discovery.tags.last.end" end:
            "`last` at the end answers an empty list";
        May V1_1_1 "discovery.tags.link.offered" offered:
            "a page that is not the last has `Link`";
        Must V1_1_1 "discovery.tags.link.form" form:
            "`Link` has a target and the relation type `next`";
        Must V1_1_1 "discovery.tags.link.followed" followed:
            "pages behind `Link` make up the list, each tag once and in order";
        Should Practice "discovery.tags.link.page-length" page_length:
            "pages behind `Link` keep `n`";
        Should Practice "discovery.tags.link.last-page" last_page:
            "the last page has no `Link`";
        Must V1_1_1 "discovery.tags.pages.by-last" by_last:
            "pages by `last` make up the list, also with letters of both cases";
        Must V1_1_1 "discovery.tags.pages.many" many:
            "three hundred tags are listed whole, or page by page";
    }
}

const TAGS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
/// More pages than any of these lists can have.
const PAGES: usize = 1000;

async fn prepared(scope: &Scope) -> Verdict<Repository> {
    let repository = scope.repository();
    repository.tagged_all(&TAGS).await?;
    Ok(repository)
}

/// Holds the tags of an answer against exact ones; fewer are right where `Link` follows.
fn are(reply: &Reply, wanted: &[&str]) -> Verdict {
    let tags = listed(reply)?;
    let fewer = reply.header("link").is_some() && wanted.starts_with(&as_texts(&tags));
    if tags == wanted || fewer {
        return Ok(());
    }
    Err(reply.fail(format!("the tags {wanted:?}")))
}

fn as_texts(tags: &[String]) -> Vec<&str> {
    tags.iter().map(String::as_str).collect()
}

/// Every page from a first query on, following `Link`.
async fn follow(repository: &Repository, query: &str) -> Verdict<Vec<(Reply, Vec<String>)>> {
    let mut reply = repository.tags(query).await?;
    let mut pages = Vec::new();
    loop {
        let tags = listed(&reply)?;
        let next = reply.next()?;
        pages.push((reply, tags));
        let Some(next) = next else { return Ok(pages) };
        if pages.len() > PAGES {
            return Err(Stop::fail(next, "an end of the pages", "more of them"));
        }
        reply = repository.follow(Method::GET, &next).send().await?;
    }
}

async fn first(scope: Scope) -> Verdict {
    let repository = prepared(&scope).await?;
    are(&repository.tags("?n=3").await?, &TAGS[..3])?;
    are(&repository.tags("?n=1").await?, &TAGS[..1])
}

async fn beyond(scope: Scope) -> Verdict {
    let repository = prepared(&scope).await?;
    are(&repository.tags("?n=50").await?, &TAGS)?;
    are(&repository.tags("?n=7").await?, &TAGS)
}

async fn zero(scope: Scope) -> Verdict {
    let repository = prepared(&scope).await?;
    let reply = repository.tags("?n=0").await?;
    let value = reply.status(&[200])?.header_absent("link")?.json()?;
    if value["tags"].is_null() || listed(&reply)?.is_empty() {
        return Ok(());
    }
    Err(reply.fail("no tags"))
}

async fn malformed(scope: Scope) -> Verdict {
    let repository = prepared(&scope).await?;
    for query in ["?n=x", "?n=-1", "?n=", "?n=1.5"] {
        repository.tags(query).await?.status(&[200, 400])?;
    }
    Ok(())
}

async fn huge(scope: Scope) -> Verdict {
    let repository = prepared(&scope).await?;
    for query in ["?n=4294967296", "?n=99999999999999999999"] {
        repository.tags(query).await?.status(&[200, 400])?;
    }
    Ok(())
}

async fn exclusive(scope: Scope) -> Verdict {
    let repository = prepared(&scope).await?;
    are(&repository.tags("?n=2&last=b").await?, &TAGS[2..4])?;
    are(&repository.tags("?n=50&last=e").await?, &TAGS[5..])
}

async fn alone(scope: Scope) -> Verdict {
    let repository = prepared(&scope).await?;
    are(&repository.tags("?last=c").await?, &TAGS[3..])
}

async fn not_there(scope: Scope) -> Verdict {
    let repository = prepared(&scope).await?;
    are(&repository.tags("?n=2&last=bb").await?, &TAGS[2..4])
}

async fn end(scope: Scope) -> Verdict {
    let repository = prepared(&scope).await?;
    for query in ["?last=g", "?n=3&last=g", "?n=3&last=zzz"] {
        let reply = repository.tags(query).await?;
        let value = reply.status(&[200])?.json()?;
        if !value["tags"].is_null() && !listed(&reply)?.is_empty() {
            return Err(reply.fail("no tags"));
        }
    }
    Ok(())
}

/// The first page of two tags, where it has a `Link`.
async fn linked(scope: &Scope) -> Verdict<(Repository, Reply)> {
    let repository = prepared(scope).await?;
    let reply = repository.tags("?n=2").await?;
    if reply.status(&[200])?.header("link").is_none() {
        return Err(Stop::skip("pages have no `Link`"));
    }
    Ok((repository, reply))
}

async fn offered(scope: Scope) -> Verdict {
    linked(&scope).await.map(drop)
}

async fn form(scope: Scope) -> Verdict {
    let (_, reply) = linked(&scope).await?;
    reply.next().map(drop)
}

async fn followed(scope: Scope) -> Verdict {
    let (repository, first) = linked(&scope).await?;
    for query in ["?n=1", "?n=2", "?n=3"] {
        let pages = follow(&repository, query).await?;
        let tags: Vec<String> = pages.into_iter().flat_map(|(_, tags)| tags).collect();
        if tags != TAGS {
            return Err(first.fail(format!("{TAGS:?} over all pages, not {tags:?}")));
        }
    }
    Ok(())
}

async fn page_length(scope: Scope) -> Verdict {
    let (repository, _) = linked(&scope).await?;
    for (reply, tags) in follow(&repository, "?n=2").await? {
        if tags.len() > 2 {
            return Err(reply.fail("two tags at most"));
        }
    }
    Ok(())
}

async fn last_page(scope: Scope) -> Verdict {
    let (repository, _) = linked(&scope).await?;
    for query in ["?n=7", "?n=50", "?n=3&last=d", "?last=e"] {
        repository.tags(query).await?.header_absent("link")?;
    }
    Ok(())
}

async fn by_last(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let wanted = ["B", "a", "b", "A", "_c", "Ab", "aB", "1"];
    repository.tagged_all(&wanted).await?;
    let mut found: Vec<String> = Vec::new();
    let mut query = "?n=3".to_owned();
    loop {
        let reply = repository.tags(&query).await?;
        let page = listed(&reply)?;
        let Some(last) = page.last() else { break };
        query = format!("?n=3&last={last}");
        found.extend(page);
        if found.len() > wanted.len() {
            return Err(reply.fail(format!("each of {wanted:?} once, not {found:?}")));
        }
    }
    let mut sorted = found.clone();
    sorted.sort();
    let mut all = wanted.map(str::to_owned).to_vec();
    all.sort();
    if sorted == all {
        return Ok(());
    }
    Err(Stop::fail(
        "tags by `last`",
        format!("{wanted:?}"),
        format!("{found:?}"),
    ))
}

async fn many(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    let wanted: Vec<String> = (0..300).map(|number| format!("t{number:04}")).collect();
    for tag in &wanted {
        repository.push_manifest(tag, &manifest).await?;
    }
    for query in ["", "?n=100", "?n=299", "?n=300"] {
        let pages = follow(&repository, query).await?;
        let tags: Vec<String> = pages.into_iter().flat_map(|(_, tags)| tags).collect();
        let complete = query.is_empty() || query == "?n=300";
        if tags != wanted && (complete || !wanted.starts_with(&tags)) {
            let got = format!("{} tags", tags.len());
            return Err(Stop::fail(
                format!("tags{query}"),
                "all 300 tags in order",
                got,
            ));
        }
    }
    Ok(())
}
