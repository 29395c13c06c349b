//! Waiting for a tag to move: `Prefer: wait` of RFC 7240 beside `If-None-Match`.
//! An extension of HTTP that no registry needs to have; where it is told by
//! `Preference-Applied` it has to hold what it says.

use std::time::{Duration, Instant};

use futures::future::{join, try_join_all};
use http::Method;

use crate::check::{Stop, Verdict, checks};
use crate::content::Manifest;
use crate::http::Request;
use crate::reply::Reply;
use crate::scope::{Repository, Scope};

checks! {
    "RFC 7240 4.3" {
        May Http "extensions.wait.offered" offered:
            "`Prefer: wait` holds an answer back, and `Preference-Applied` tells so";
        Must Http "extensions.wait.ends" ends:
            "a tag that stays is 304 when the time is over";
        Must Http "extensions.wait.wakes" wakes:
            "a tag that moves is answered at once, with the new manifest";
        Should Http "extensions.wait.wakes-head" wakes_head:
            "HEAD waits too";
        Should Http "extensions.wait.wakes-all" wakes_all:
            "all that wait for a tag are answered";
        Should Http "extensions.wait.deleted" deleted:
            "a tag that is deleted is answered at once, with 404";
        Must Http "extensions.wait.stale" stale:
            "a tag that has moved before is answered at once";
        Must Http "extensions.wait.unconditional" unconditional:
            "without `If-None-Match` nothing is held back";
        Must Http "extensions.wait.other-tag" other_tag:
            "a push of another tag wakes nobody";
        Should Http "extensions.wait.malformed" malformed:
            "a malformed preference is ignored";
    }
}

/// Long enough that an answer before it was not held back to its end.
const LONG: u64 = 30;
/// What "at once" may take on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(10);
/// A waiting request is on its way when this is over; where it is not, the push comes first
/// and the answer is the same, only not held back.
const UNDER_WAY: Duration = Duration::from_millis(300);

/// A tag, its `ETag`, and proof that the registry holds answers back.
struct Watched {
    repository: Repository,
    tag: String,
}

impl Watched {
    fn request(&self, method: Method, preference: &str) -> Request {
        self.repository
            .manifest(method, "v1")
            .header("Accept", crate::scope::ACCEPT)
            .header("If-None-Match", self.tag.clone())
            .header("Prefer", preference)
    }

    /// Waits with a method until the answer, and tells how long that took.
    async fn wait(&self, method: Method) -> Verdict<(Reply, Duration)> {
        let start = Instant::now();
        let reply = self.request(method, &format!("wait={LONG}")).send().await?;
        Ok((reply, start.elapsed()))
    }

    async fn push(&self, tag: &str) -> Verdict<Manifest> {
        let manifest = Manifest::of(&self.repository.image().await?);
        tokio::time::sleep(UNDER_WAY).await;
        self.repository.push_manifest(tag, &manifest).await?;
        Ok(manifest)
    }
}

async fn watched(scope: &Scope) -> Verdict<Watched> {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    let reply = repository.get_manifest("v1").send().await?;
    let Some(tag) = reply.status(&[200])?.header("etag") else {
        return Err(Stop::skip("manifests have no `ETag`"));
    };
    let tag = tag.to_owned();
    let watched = Watched { repository, tag };
    let reply = watched.request(Method::GET, "wait=1").send().await?;
    reply.status(&[200, 304])?;
    if reply.header("preference-applied").is_none() {
        return Err(Stop::skip(
            "`Prefer: wait` is not offered (no `Preference-Applied`)",
        ));
    }
    Ok(watched)
}

fn at_once(reply: &Reply, elapsed: Duration) -> Verdict {
    if elapsed < AT_ONCE {
        return Ok(());
    }
    Err(reply.fail(format!("an answer at once, not after {elapsed:?}")))
}

async fn offered(scope: Scope) -> Verdict {
    watched(&scope).await.map(drop)
}

async fn ends(scope: Scope) -> Verdict {
    let watched = watched(&scope).await?;
    let start = Instant::now();
    let reply = watched.request(Method::GET, "wait=2").send().await?;
    let elapsed = start.elapsed();
    reply
        .status(&[304])?
        .header_is("etag", &watched.tag)?
        .header_is("preference-applied", "wait=2")?;
    if elapsed < Duration::from_millis(1800) {
        return Err(reply.fail(format!("an answer after two seconds, not {elapsed:?}")));
    }
    at_once(&reply, elapsed)
}

async fn wakes(scope: Scope) -> Verdict {
    let watched = watched(&scope).await?;
    let (answer, pushed) = join(watched.wait(Method::GET), watched.push("v1")).await;
    let ((reply, elapsed), manifest) = (answer?, pushed?);
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    at_once(&reply, elapsed)
}

async fn wakes_head(scope: Scope) -> Verdict {
    let watched = watched(&scope).await?;
    let (answer, pushed) = join(watched.wait(Method::HEAD), watched.push("v1")).await;
    let ((reply, elapsed), manifest) = (answer?, pushed?);
    reply
        .status(&[200])?
        .header_is("docker-content-digest", &manifest.digest)?;
    at_once(&reply, elapsed)
}

async fn wakes_all(scope: Scope) -> Verdict {
    let watched = watched(&scope).await?;
    let waiting = try_join_all((0..20).map(|_| watched.wait(Method::GET)));
    let (answers, pushed) = join(waiting, watched.push("v1")).await;
    let manifest = pushed?;
    for (reply, elapsed) in answers? {
        reply.status(&[200])?.body_is(&manifest.bytes)?;
        at_once(&reply, elapsed)?;
    }
    Ok(())
}

async fn deleted(scope: Scope) -> Verdict {
    let watched = watched(&scope).await?;
    let delete = async {
        tokio::time::sleep(UNDER_WAY).await;
        let reply = watched.repository.delete_manifest("v1").send().await?;
        reply.skip_unless(&[202], "deleting tags").map(drop)
    };
    let (answer, outcome) = join(watched.wait(Method::GET), delete).await;
    outcome?;
    let (reply, elapsed) = answer?;
    reply.status(&[404])?;
    at_once(&reply, elapsed)
}

async fn stale(scope: Scope) -> Verdict {
    let watched = watched(&scope).await?;
    let manifest = watched.repository.tagged("v1").await?;
    let (reply, elapsed) = watched.wait(Method::GET).await?;
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    at_once(&reply, elapsed)
}

async fn unconditional(scope: Scope) -> Verdict {
    let watched = watched(&scope).await?;
    let start = Instant::now();
    let reply = watched
        .repository
        .get_manifest("v1")
        .header("Prefer", format!("wait={LONG}"))
        .send()
        .await?;
    reply.status(&[200])?;
    at_once(&reply, start.elapsed())
}

async fn other_tag(scope: Scope) -> Verdict {
    let watched = watched(&scope).await?;
    let waiting = watched.request(Method::GET, "wait=3").send();
    let (answer, pushed) = join(waiting, watched.push("v2")).await;
    pushed?;
    answer?.status(&[304])?;
    Ok(())
}

async fn malformed(scope: Scope) -> Verdict {
    let watched = watched(&scope).await?;
    for preference in ["wait", "wait=x", "wait=-1", "wait=", "unheard=1"] {
        let start = Instant::now();
        let reply = watched.request(Method::GET, preference).send().await?;
        reply.status(&[304])?;
        at_once(&reply, start.elapsed())?;
    }
    Ok(())
}
