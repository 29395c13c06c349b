//! "Cancel a blob upload", and sessions that are not there (any more).

use http::Method;

use crate::check::{Verdict, checks};
use crate::content::Blob;
use crate::reply::Reply;
use crate::scope::{Repository, Scope};
use crate::upload::Upload;

checks! {
    "Cancel a blob upload" {
        Should Main "push.cancel.accepted" accepted:
            "DELETE of a session answers 204";
        Should Main "push.cancel.with-chunks" with_chunks:
            "DELETE of a session that has chunks answers 204, and nothing is stored";
        Must Main "push.cancel.refused" refused:
            "after that neither a chunk nor the closing PUT is accepted";
        Should Main "push.cancel.gone-status" gone_status:
            "after that its status is 404";
        Should Main "push.cancel.gone-patch" gone_patch:
            "after that a chunk is 404";
        Should Main "push.cancel.gone-put" gone_put:
            "after that the closing PUT is 404";
        Should Main "push.cancel.again" again:
            "after that another DELETE is 404 or 400";
    }
    "Endpoints" {
        Should V1_1_1 "push.upload.unknown" unknown:
            "a session that never was is 404 for GET, PATCH and PUT";
    }
    "Error Codes" {
        Should V1_1_1 "push.upload.unknown-code" unknown_code:
            "a session that is gone is `BLOB_UPLOAD_UNKNOWN`";
    }
}

/// A session that was cancelled; a skip where the registry does not cancel.
async fn cancelled(scope: &Scope) -> Verdict<(Repository, Upload, Blob)> {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    let upload = repository.start().await?;
    let reply = upload.cancel().await?;
    reply.skip_unless(&[200, 202, 204], "cancelling an upload")?;
    Ok((repository, upload, blob))
}

async fn accepted(scope: Scope) -> Verdict {
    let upload = scope.repository().start().await?;
    upload.cancel().await?.status(&[204])?;
    Ok(())
}

async fn with_chunks(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    let mut upload = repository.start().await?;
    upload.append(0, blob.bytes.clone()).await?;
    upload.cancel().await?.status(&[204])?;
    upload.status().await?.status(&[404])?;
    let reply = repository.head_blob(&blob.digest).send().await?;
    reply.status(&[404])?;
    Ok(())
}

async fn refused(scope: Scope) -> Verdict {
    let (repository, upload, blob) = cancelled(&scope).await?;
    for reply in [
        patch(&upload, &blob).await?,
        upload.close_with(&blob, None).await?,
    ] {
        if !reply.status.is_client_error() {
            return Err(reply.fail("a refusal"));
        }
    }
    let reply = repository.head_blob(&blob.digest).send().await?;
    reply.status(&[404])?;
    Ok(())
}

async fn gone_status(scope: Scope) -> Verdict {
    let (_, upload, _) = cancelled(&scope).await?;
    upload.status().await?.status(&[404])?;
    Ok(())
}

async fn patch(upload: &Upload, blob: &Blob) -> Verdict<Reply> {
    let range = format!("0-{}", blob.bytes.len() - 1);
    upload.patch(&range, blob.bytes.clone()).send().await
}

async fn gone_patch(scope: Scope) -> Verdict {
    let (_, upload, blob) = cancelled(&scope).await?;
    patch(&upload, &blob).await?.status(&[404])?;
    Ok(())
}

async fn gone_put(scope: Scope) -> Verdict {
    let (_, upload, blob) = cancelled(&scope).await?;
    upload.close_with(&blob, None).await?.status(&[404])?;
    Ok(())
}

async fn again(scope: Scope) -> Verdict {
    let (_, upload, _) = cancelled(&scope).await?;
    upload.cancel().await?.status(&[400, 404])?;
    Ok(())
}

async fn unknown(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    repository.push(&blob).await?;
    for name in ["0b7e9c4c-3a39-4f0e-9a0f-0123456789ab", "nothing"] {
        for method in [Method::GET, Method::PATCH, Method::PUT] {
            let mut request = repository.request(method.clone(), &format!("blobs/uploads/{name}"));
            if method != Method::GET {
                request = request
                    .header("Content-Type", "application/octet-stream")
                    .body(blob.bytes.clone());
            }
            if method == Method::PUT {
                request = request.query("digest", &blob.digest);
            }
            request.send().await?.status(&[404])?;
        }
    }
    Ok(())
}

async fn unknown_code(scope: Scope) -> Verdict {
    let blob = Blob::random(1000);
    let upload = scope.repository().start().await?;
    upload.close_with(&blob, None).await?.status(&[201])?;
    for reply in [
        upload.status().await?,
        patch(&upload, &blob).await?,
        upload.close_with(&blob, None).await?,
    ] {
        reply.status(&[404])?.error_is(&["BLOB_UPLOAD_UNKNOWN"])?;
    }
    Ok(())
}
