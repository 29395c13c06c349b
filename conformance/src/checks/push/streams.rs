//! PATCH without a range, as Docker, podman and skopeo push: one long body, its length
//! often unknown beforehand.

use bytes::Bytes;

use crate::check::{Verdict, checks};
use crate::content::Blob;
use crate::digest::Algorithm;
use crate::scope::Scope;

checks! {
    "Pushing a blob in chunks" {
        Must Practice "push.stream.length-known" length_known:
            "PATCH without `Content-Range` is accepted";
        Must Practice "push.stream.length-unknown" length_unknown:
            "PATCH without `Content-Range` and `Content-Length` is accepted";
        Must Practice "push.stream.large" large:
            "a streamed blob of 9 MiB is stored whole";
        Must Practice "push.stream.empty" empty:
            "a streamed blob of no bytes is stored";
        May Main "push.stream.sha512" sha512:
            "a streamed blob is stored by its sha512";
        Should Practice "push.stream.continued" continued:
            "a second streamed PATCH goes on where the first ended";
        Should Practice "push.stream.session-name" session_name:
            "`Docker-Upload-UUID` or the end of the path names the session";
    }
}

async fn streamed(scope: &Scope, length: usize, known: bool) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(length));
    let mut upload = repository.start().await?;
    let request = upload.patch_stream();
    let reply = if known {
        request.body(blob.bytes.clone())
    } else {
        request.stream(blob.pieces(64 << 10))
    }
    .send()
    .await?;
    reply.status(&[202])?.required("range")?;
    if length > 0 {
        reply.header_is("range", &format!("0-{}", length - 1))?;
    }
    upload.location = reply.location()?;
    upload.close(&blob.digest).send().await?.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn length_known(scope: Scope) -> Verdict {
    streamed(&scope, 10_000, true).await
}

async fn length_unknown(scope: Scope) -> Verdict {
    streamed(&scope, 200_000, false).await
}

async fn large(scope: Scope) -> Verdict {
    streamed(&scope, 9 << 20, false).await
}

async fn empty(scope: Scope) -> Verdict {
    streamed(&scope, 0, false).await
}

async fn sha512(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let blob = Blob::by(Algorithm::Sha512, crate::content::random_bytes(200_000));
    let mut upload = repository.start().await?;
    let request = upload.patch_stream().stream(blob.pieces(64 << 10));
    upload.location = request.send().await?.status(&[202])?.location()?;
    let reply = upload.close(&blob.digest).send().await?;
    reply.skip_unless(&[201], "sha512")?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    let range = repository
        .get_blob(&blob.digest)
        .header("Range", "bytes=-9");
    let reply = range.send().await?;
    reply.status(&[200, 206])?;
    Ok(())
}

async fn continued(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(20_000));
    let mut upload = repository.start().await?;
    for (number, piece) in blob.pieces(10_000).into_iter().enumerate() {
        let reply = upload
            .patch_stream()
            .stream(vec![piece, Bytes::new()])
            .send()
            .await?;
        reply
            .status(&[202])?
            .header_is("range", &format!("0-{}", (number + 1) * 10_000 - 1))?;
        upload.location = reply.location()?;
    }
    upload.close(&blob.digest).send().await?.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn session_name(scope: Scope) -> Verdict {
    let reply = scope.repository().post("").send().await?;
    reply.status(&[202])?;
    let location = reply.location()?;
    let path = location.split('?').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    match reply.header("docker-upload-uuid") {
        Some(name) if !name.is_empty() => Ok(()),
        _ if last.len() >= 16 => Ok(()),
        _ => Err(reply.fail("a name of the session")),
    }
}
