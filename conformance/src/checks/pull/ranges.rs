//! Ranges of blobs: "Pulling blobs" and RFC 9110 section 14.

use http::Method;

use crate::check::{Stop, Verdict, checks};
use crate::content::Blob;
use crate::reply::Reply;
use crate::scope::{Repository, Scope};

checks! {
    "Pulling blobs" {
        Should V1_1_1 "pull.blob.range.first" first:
            "`bytes=0-9` answers 206 and ten bytes";
        Should V1_1_1 "pull.blob.range.middle" middle:
            "`bytes=a-b` answers 206 and what lies between";
        Should V1_1_1 "pull.blob.range.open" open:
            "`bytes=a-` answers the rest";
        Should V1_1_1 "pull.blob.range.suffix" suffix:
            "`bytes=-n` answers the last n bytes";
    }
    "RFC 9110 14.1.2" {
        Should Http "pull.blob.range.past-end" past_end:
            "an end past the blob is taken as its last byte";
        Should Http "pull.blob.range.long-suffix" long_suffix:
            "a suffix longer than the blob is the whole blob";
        Should Http "pull.blob.range.last-byte" last_byte:
            "the last byte alone is answered";
    }
    "RFC 9110 15.5.17" {
        Should Http "pull.blob.range.unsatisfiable" unsatisfiable:
            "a start past the blob is 416 with `Content-Range: bytes */length`";
    }
    "RFC 9110 14.2" {
        Should Http "pull.blob.range.malformed" malformed:
            "a malformed range is not taken as another one";
        Should Http "pull.blob.range.other-unit" other_unit:
            "a range in an unknown unit is ignored";
    }
    "RFC 9110 15.3.7.2" {
        Should Http "pull.blob.range.multiple" multiple:
            "several ranges answer parts of them, or the whole";
    }
    "RFC 9110 14.2" {
        Should Http "pull.blob.range.head" head:
            "a range on HEAD does not change the answer's length";
    }
    "RFC 9110 13.1.5" {
        Should Http "pull.blob.range.if-range" if_range:
            "`If-Range` of another tag answers the whole";
    }
    "RFC 9110 14.3" {
        Should Http "pull.blob.range.accept-ranges" accept_ranges:
            "GET and HEAD answer `Accept-Ranges: bytes`";
    }
    "Resumable Pull" {
        Should V1_1_1 "pull.blob.range.reassembled" reassembled:
            "parts pulled one by one make up the blob";
    }
}

const LENGTH: usize = 1000;

async fn prepared(scope: &Scope) -> Verdict<(Repository, Blob)> {
    let (repository, blob) = (scope.repository(), Blob::random(LENGTH));
    repository.push(&blob).await?;
    Ok((repository, blob))
}

async fn ask(repository: &Repository, blob: &Blob, range: &str) -> Verdict<Reply> {
    repository
        .get_blob(&blob.digest)
        .header("Range", range)
        .send()
        .await
}

/// Holds a 206 against the bytes from `start` to before `end`.
fn part(reply: &Reply, blob: &Blob, start: usize, end: usize) -> Verdict {
    reply
        .status(&[206])?
        .header_is(
            "content-range",
            &format!("bytes {start}-{}/{}", end - 1, blob.bytes.len()),
        )?
        .header_is("content-length", &(end - start).to_string())?
        .body_is(&blob.bytes[start..end])?;
    Ok(())
}

async fn one(scope: &Scope, range: &str, start: usize, end: usize) -> Verdict {
    let (repository, blob) = prepared(scope).await?;
    let reply = ask(&repository, &blob, range).await?;
    part(&reply, &blob, start, end)
}

async fn first(scope: Scope) -> Verdict {
    one(&scope, "bytes=0-9", 0, 10).await
}

async fn middle(scope: Scope) -> Verdict {
    one(&scope, "bytes=100-499", 100, 500).await
}

async fn open(scope: Scope) -> Verdict {
    one(&scope, "bytes=400-", 400, LENGTH).await
}

async fn suffix(scope: Scope) -> Verdict {
    one(&scope, "bytes=-50", LENGTH - 50, LENGTH).await
}

async fn past_end(scope: Scope) -> Verdict {
    one(&scope, "bytes=990-5000", 990, LENGTH).await
}

async fn long_suffix(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    let reply = ask(&repository, &blob, "bytes=-5000").await?;
    reply.status(&[200, 206])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn last_byte(scope: Scope) -> Verdict {
    one(&scope, "bytes=999-999", LENGTH - 1, LENGTH).await
}

async fn unsatisfiable(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    for range in ["bytes=1000-", "bytes=1000-1001", "bytes=9999999-"] {
        let reply = ask(&repository, &blob, range).await?;
        reply
            .status(&[416])?
            .header_is("content-range", "bytes */1000")?;
    }
    Ok(())
}

async fn malformed(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    for range in ["bytes=9-3", "bytes=", "bytes=a-b", "bytes=-", "0-9"] {
        let reply = ask(&repository, &blob, range).await?;
        reply.status(&[200, 400, 416])?;
        if reply.status == 200 {
            reply.body_is(&blob.bytes)?;
        }
    }
    Ok(())
}

async fn other_unit(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    let reply = ask(&repository, &blob, "lines=0-9").await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn multiple(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    let reply = ask(&repository, &blob, "bytes=0-99,500-599").await?;
    reply.status(&[200, 206])?;
    if reply.status == 200 {
        reply.body_is(&blob.bytes)?;
        return Ok(());
    }
    let kind = reply.header("content-type").unwrap_or_default();
    if !kind.starts_with("multipart/byteranges") {
        return part(&reply, &blob, 0, 100).or_else(|_| part(&reply, &blob, 0, 600));
    }
    for (start, end) in [(0, 100), (500, 600)] {
        let wanted = &blob.bytes[start..end];
        if !reply
            .body
            .windows(wanted.len())
            .any(|found| found == wanted)
        {
            return Err(reply.fail(format!("a part with the bytes {start}-{}", end - 1)));
        }
    }
    Ok(())
}

async fn head(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    let reply = repository
        .blob(Method::HEAD, &blob.digest)
        .header("Range", "bytes=0-9")
        .send()
        .await?;
    reply.status(&[200])?.header_is("content-length", "1000")?;
    Ok(())
}

async fn if_range(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    let plain = repository.get_blob(&blob.digest).send().await?;
    let Some(tag) = plain.header("etag") else {
        return Err(Stop::skip("blobs have no `ETag`"));
    };
    let same = repository
        .get_blob(&blob.digest)
        .header("Range", "bytes=0-9")
        .header("If-Range", tag)
        .send()
        .await?;
    part(&same, &blob, 0, 10)?;
    let other = repository
        .get_blob(&blob.digest)
        .header("Range", "bytes=0-9")
        .header("If-Range", "\"another\"")
        .send()
        .await?;
    other.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn accept_ranges(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    for method in [Method::GET, Method::HEAD] {
        let reply = repository.blob(method, &blob.digest).send().await?;
        reply.status(&[200])?.header_is("accept-ranges", "bytes")?;
    }
    Ok(())
}

async fn reassembled(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    let mut whole = Vec::new();
    while whole.len() < LENGTH {
        let end = (whole.len() + 333).min(LENGTH);
        let range = format!("bytes={}-{}", whole.len(), end - 1);
        let reply = ask(&repository, &blob, &range).await?;
        part(&reply, &blob, whole.len(), end)?;
        whole.extend_from_slice(&reply.body);
    }
    Ok(())
}
