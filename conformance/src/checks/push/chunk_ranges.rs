//! Odd `Content-Range` headers and odd bodies of chunks.

use bytes::Bytes;

use crate::check::{Verdict, checks};
use crate::content::Blob;
use crate::scope::Scope;

checks! {
    "Pushing a blob in chunks" {
        Should V1_1_1 "push.chunk.range.malformed" malformed:
            "a `Content-Range` outside `^[0-9]+-[0-9]+$` is refused, and the session survives";
        Should V1_1_1 "push.chunk.range.too-long" too_long:
            "a range longer than the body is refused, and the session survives";
        Should V1_1_1 "push.chunk.range.too-short" too_short:
            "a range shorter than the body is refused, and the session survives";
        Should Practice "push.chunk.range.empty-body" empty_body:
            "a PATCH of no bytes changes nothing";
        Must V1_1_1 "push.chunk.range.without" without:
            "a chunk with a range may follow a PATCH without one";
        Should V1_1_1 "push.chunk.range.huge" huge:
            "a range with numbers beyond 64 bits is refused, not an error of the server";
    }
    "Error Codes" {
        Should V1_1_1 "push.chunk.range.malformed-code" malformed_code:
            "a malformed range is `BLOB_UPLOAD_INVALID`";
        Should V1_1_1 "push.chunk.range.length-code" length_code:
            "a length that does not fit the range is `SIZE_INVALID` or `BLOB_UPLOAD_INVALID`";
    }
}

/// Sends one odd PATCH to a session that has a chunk, expects a refusal, and finishes.
async fn refused(scope: &Scope, range: impl Fn(usize) -> String, length: usize) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let chunk = upload.chunk(1000);
    let blob = Blob::random(2 * chunk);
    upload.append(0, blob.bytes.slice(..chunk)).await?;
    let odd = blob.bytes.slice(chunk..chunk + length);
    let reply = upload.patch(&range(chunk), odd).send().await?;
    reply.status(&[400, 416])?;
    let status = upload.status().await?;
    status
        .status(&[204])?
        .header_is("range", &format!("0-{}", chunk - 1))?;
    upload.location = status.location()?;
    upload.append(chunk, blob.bytes.slice(chunk..)).await?;
    upload.close(&blob.digest).send().await?.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn malformed(scope: Scope) -> Verdict {
    for range in ["x", "10", "-10", "a-b", "1000-", "1000-x", "0x10-0x20"] {
        refused(&scope, |_| range.to_owned(), 100).await?;
    }
    refused(&scope, |chunk| format!("{}-{chunk}", chunk + 99), 100).await
}

async fn too_long(scope: Scope) -> Verdict {
    refused(&scope, |chunk| format!("{chunk}-{}", chunk + 999), 100).await
}

async fn too_short(scope: Scope) -> Verdict {
    refused(&scope, |chunk| format!("{chunk}-{}", chunk + 9), 100).await
}

async fn huge(scope: Scope) -> Verdict {
    refused(&scope, |_| format!("{0}-{0}", "9".repeat(30)), 1).await
}

async fn empty_body(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let chunk = upload.chunk(1000);
    let blob = Blob::random(2 * chunk);
    upload.append(0, blob.bytes.slice(..chunk)).await?;
    let reply = upload.patch_stream().body(Bytes::new()).send().await?;
    reply.status(&[202, 400, 416])?;
    let status = upload.status().await?;
    status
        .status(&[204])?
        .header_is("range", &format!("0-{}", chunk - 1))?;
    upload.location = status.location()?;
    upload.append(chunk, blob.bytes.slice(chunk..)).await?;
    upload.close(&blob.digest).send().await?.status(&[201])?;
    Ok(())
}

async fn without(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let chunk = upload.chunk(1000);
    let blob = Blob::random(2 * chunk);
    let first = blob.bytes.slice(..chunk);
    let reply = upload.patch_stream().body(first).send().await?;
    upload.location = reply.status(&[202])?.location()?;
    upload.append(chunk, blob.bytes.slice(chunk..)).await?;
    upload.close(&blob.digest).send().await?.status(&[201])?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn malformed_code(scope: Scope) -> Verdict {
    let upload = scope.repository().start().await?;
    let reply = upload.patch("x", Blob::random(100).bytes).send().await?;
    reply
        .status(&[400, 416])?
        .error_is(&["BLOB_UPLOAD_INVALID"])?;
    Ok(())
}

async fn length_code(scope: Scope) -> Verdict {
    let upload = scope.repository().start().await?;
    let length = upload.chunk(100);
    let reply = upload
        .patch(&format!("0-{}", 2 * length - 1), Blob::random(length).bytes)
        .send()
        .await?;
    reply
        .status(&[400, 416])?
        .error_is(&["SIZE_INVALID", "BLOB_UPLOAD_INVALID"])?;
    Ok(())
}
