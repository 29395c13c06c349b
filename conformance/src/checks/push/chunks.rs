//! "Pushing a blob in chunks": what every accepted chunk and its session answer.

use crate::check::{Stop, Verdict, checks};
use crate::content::Blob;
use crate::digest::Algorithm;
use crate::scope::Scope;

checks! {
    "Pushing a blob in chunks" {
        Must V1_1_1 "push.chunk.accepted" accepted:
            "PATCH answers 202, `Location`, and `Range` with the end of the chunk";
        Must V1_1_1 "push.chunk.whole-in-one" whole_in_one:
            "one chunk and an empty closing PUT make a blob";
        Must V1_1_1 "push.chunk.several" several:
            "several chunks in order make a blob";
        Must V1_1_1 "push.chunk.many" many:
            "thirty chunks make a blob";
        Must V1_1_1 "push.chunk.last-in-put" last_in_put:
            "the last chunk may come with the closing PUT";
        Must Practice "push.chunk.last-in-put-plain" last_in_put_plain:
            "the last chunk may come with the closing PUT without a `Content-Range`";
        Must V1_1_1 "push.chunk.closing-location" closing_location:
            "the closing PUT answers 201 and a `Location` that the blob is pulled from";
        Should V1_1_1 "push.chunk.minimum" minimum:
            "`OCI-Chunk-Min-Length`, where it is there, is a number of bytes";
        Must V1_1_1 "push.chunk.last-is-short" last_is_short:
            "the last chunk may be of any length";
        Must V1_1_1 "push.chunk.status" status:
            "GET of a session answers 204, `Location` and `Range` after each chunk";
        Must V1_1_1 "push.chunk.status-new" status_new:
            "GET of a session without a chunk answers 204 and `Location`";
        May Main "push.chunk.sha512-hint" sha512_hint:
            "`digest-algorithm=sha512` opens a session for a sha512 blob";
        May Main "push.chunk.sha512" sha512:
            "a blob is pushed in chunks by its sha512 without a hint";
        Should Main "push.chunk.unknown-algorithm" unknown_algorithm:
            "an unknown `digest-algorithm` is 400";
    }
}

const CHUNK: usize = 1000;

async fn accepted(scope: Scope) -> Verdict {
    let mut upload = scope.repository().start().await?;
    let chunk = upload.chunk(CHUNK);
    let blob = Blob::random(2 * chunk);
    for (number, piece) in blob.pieces(chunk).into_iter().enumerate() {
        upload.append(number * chunk, piece).await?;
    }
    Ok(())
}

/// Pushes a blob of `count` chunks and one byte, all by PATCH, and pulls it.
async fn push(scope: &Scope, count: usize) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let chunk = upload.chunk(CHUNK);
    let blob = Blob::random(count * chunk + 1);
    for (number, piece) in blob.pieces(chunk).into_iter().enumerate() {
        upload.append(number * chunk, piece).await?;
    }
    upload.close(&blob.digest).send().await?.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn whole_in_one(scope: Scope) -> Verdict {
    push(&scope, 0).await
}

async fn several(scope: Scope) -> Verdict {
    push(&scope, 3).await
}

async fn many(scope: Scope) -> Verdict {
    push(&scope, 30).await
}

async fn last_in_put(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let chunk = upload.chunk(CHUNK);
    let blob = Blob::random(chunk + 500);
    upload.append(0, blob.bytes.slice(..chunk)).await?;
    let reply = upload.close_with(&blob, Some((chunk, chunk + 500))).await?;
    reply.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn last_in_put_plain(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let chunk = upload.chunk(CHUNK);
    let blob = Blob::random(chunk + 500);
    upload.append(0, blob.bytes.slice(..chunk)).await?;
    let reply = upload
        .close(&blob.digest)
        .header("Content-Type", "application/octet-stream")
        .body(blob.bytes.slice(chunk..))
        .send()
        .await?;
    reply.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn closing_location(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let blob = Blob::random(CHUNK);
    upload.append(0, blob.bytes.clone()).await?;
    let reply = upload.close(&blob.digest).send().await?;
    let location = reply.status(&[201])?.location()?;
    let reply = repository
        .follow(http::Method::GET, &location)
        .send()
        .await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn minimum(scope: Scope) -> Verdict {
    let reply = scope.repository().post("").send().await?;
    reply.status(&[202])?;
    match reply.header("oci-chunk-min-length") {
        Some(value) if value.parse::<u64>().is_err() => Err(reply.fail("a number of bytes")),
        _ => Ok(()),
    }
}

async fn last_is_short(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let chunk = upload.chunk(CHUNK);
    let blob = Blob::random(chunk + 1);
    upload.append(0, blob.bytes.slice(..chunk)).await?;
    upload.append(chunk, blob.bytes.slice(chunk..)).await?;
    upload.close(&blob.digest).send().await?.status(&[201])?;
    Ok(())
}

async fn status(scope: Scope) -> Verdict {
    let mut upload = scope.repository().start().await?;
    let chunk = upload.chunk(CHUNK);
    let blob = Blob::random(3 * chunk);
    for (number, piece) in blob.pieces(chunk).into_iter().enumerate() {
        upload.append(number * chunk, piece).await?;
        let reply = upload.status().await?;
        reply
            .status(&[204])?
            .header_is("range", &format!("0-{}", (number + 1) * chunk - 1))?
            .location()?;
        upload.location = reply.location()?;
    }
    upload.close(&blob.digest).send().await?.status(&[201])?;
    Ok(())
}

async fn status_new(scope: Scope) -> Verdict {
    let upload = scope.repository().start().await?;
    let reply = upload.status().await?;
    reply.status(&[204])?.location()?;
    Ok(())
}

/// Pushes three chunks by sha512; `hint` tells the algorithm at the beginning.
async fn by_sha512(scope: &Scope, hint: &str) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start_with(hint).await?;
    let chunk = upload.chunk(CHUNK);
    let blob = Blob::by(Algorithm::Sha512, crate::content::random_bytes(3 * chunk));
    for (number, piece) in blob.pieces(chunk).into_iter().enumerate() {
        upload.append(number * chunk, piece).await?;
    }
    let reply = upload.close(&blob.digest).send().await?;
    reply.skip_unless(&[201], "sha512")?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply
        .status(&[200])?
        .body_is(&blob.bytes)?
        .header_is("docker-content-digest", &blob.digest)?;
    Ok(())
}

async fn sha512_hint(scope: Scope) -> Verdict {
    by_sha512(&scope, "?digest-algorithm=sha512").await
}

async fn sha512(scope: Scope) -> Verdict {
    by_sha512(&scope, "").await
}

async fn unknown_algorithm(scope: Scope) -> Verdict {
    let reply = scope
        .repository()
        .post("?digest-algorithm=unheard")
        .send()
        .await?;
    if reply.status == 202 {
        return Err(Stop::skip(
            "SHOULD not followed: the algorithm is not looked at before the digest comes",
        ));
    }
    reply.status(&[400])?;
    Ok(())
}
