//! "Resumable Push": a client that lost its connection asks for the status and goes on.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::check::{Stop, Verdict, checks};
use crate::content::Blob;
use crate::reply::Reply;
use crate::scope::Scope;
use crate::upload::Upload;

checks! {
    "Resumable Push" {
        Must V1_1_1 "push.resume.by-status" by_status:
            "a client that knows only the session's first address goes on from its status";
        Should V1_1_1 "push.resume.after-break" after_break:
            "a session survives a connection that breaks within a chunk";
        Must V1_1_1 "push.resume.break-is-not-stored" break_is_not_stored:
            "a PUT that breaks off leaves no blob";
    }
}

/// A broken request may still be at work when the client comes back; so long it may take.
const SETTLE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(50);

async fn by_status(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let first = upload.location.clone();
    let chunk = upload.chunk(1000);
    let blob = Blob::random(3 * chunk);
    upload.append(0, blob.bytes.slice(..chunk)).await?;
    upload
        .append(chunk, blob.bytes.slice(chunk..2 * chunk))
        .await?;
    upload.location = first;
    let status = upload.status().await?;
    status
        .status(&[204])?
        .header_is("range", &format!("0-{}", 2 * chunk - 1))?;
    upload.location = status.location()?;
    upload
        .append(2 * chunk, blob.bytes.slice(2 * chunk..))
        .await?;
    upload.close(&blob.digest).send().await?.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn after_break(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let chunk = upload.chunk(100_000);
    let blob = Blob::random(3 * chunk);
    upload.append(0, blob.bytes.slice(..chunk)).await?;
    let part: Vec<Bytes> = Blob::of(blob.bytes.slice(chunk..chunk + chunk / 2)).pieces(10_000);
    let broken = upload.patch_stream().broken_stream(part).send().await;
    if let Ok(reply) = broken {
        return Err(reply.fail("no answer, as the request never ended"));
    }
    go_on(&mut upload, &blob, chunk).await?;
    upload.close(&blob.digest).send().await?.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

/// Sends the rest of the blob from where the session stands, as its status says, which is
/// within the second chunk. Before the broken request has ended, the session may be busy, or
/// go on behind what the status said: then once more.
async fn go_on(upload: &mut Upload, blob: &Blob, chunk: usize) -> Verdict {
    let until = Instant::now() + SETTLE;
    let end = blob.bytes.len() - 1;
    loop {
        let status = upload.status().await?;
        let is_over = Instant::now() > until;
        if status.status == 204 || is_over {
            status.status(&[204])?;
            upload.location = status.location()?;
            let offset = end_of_range(&status)? + 1;
            if offset < chunk || offset > chunk + chunk / 2 {
                return Err(status.fail(format!(
                    "an end between {} and {}",
                    chunk - 1,
                    chunk * 3 / 2
                )));
            }
            let rest = upload.patch(&format!("{offset}-{end}"), blob.bytes.slice(offset..));
            let reply = rest.send().await?;
            let is_early = reply.status == 409 || reply.status == 416;
            if is_over || !is_early {
                return upload.accepted(reply, end).map(drop);
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn end_of_range(reply: &Reply) -> Verdict<usize> {
    reply
        .required("range")?
        .strip_prefix("0-")
        .and_then(|end| end.parse().ok())
        .ok_or_else(|| reply.fail("`Range: 0-<end>`"))
}

async fn break_is_not_stored(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100_000));
    let upload = repository.start().await?;
    let part = Blob::of(blob.bytes.slice(..60_000));
    let broken = upload
        .close(&blob.digest)
        .header("Content-Type", "application/octet-stream")
        .broken_stream(part.pieces(10_000))
        .send()
        .await;
    if let Ok(reply) = broken {
        return Err(reply.fail("no answer, as the request never ended"));
    }
    for digest in [&blob.digest, &part.digest] {
        let reply = repository.head_blob(digest).send().await?;
        if reply.status != 404 {
            return Err(Stop::fail(
                reply.request,
                "status 404",
                reply.status.to_string(),
            ));
        }
    }
    Ok(())
}
