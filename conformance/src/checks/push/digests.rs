//! Digests that do not fit, are malformed, or of an unknown algorithm: "Pushing blobs".

use crate::check::{Verdict, checks};
use crate::content::Blob;
use crate::digest::Algorithm;
use crate::scope::Scope;

checks! {
    "POST then PUT" {
        Must V1_1_1 "push.digest.mismatch" mismatch:
            "a blob that does not fit its digest is refused and not stored";
        Must V1_1_1 "push.digest.mismatch-chunked" mismatch_chunked:
            "chunks that do not fit the digest are refused and not stored";
        Must V1_1_1 "push.digest.mismatch-sha512" mismatch_sha512:
            "a blob that does not fit its sha512 is refused and not stored";
    }
    "Pushing blobs" {
        Should Main "push.digest.mismatch-status" mismatch_status:
            "a blob that does not fit its digest is 400";
        Should Main "push.digest.malformed" malformed:
            "a malformed digest is 400";
        Should Main "push.digest.malformed-chunked" malformed_chunked:
            "a malformed digest is 400 also after chunks";
        Should Main "push.digest.unsupported" unsupported:
            "a digest of an unknown algorithm is 400";
        Should Main "push.digest.missing" missing:
            "a closing PUT without a digest is 400";
    }
    "Error Codes" {
        Should V1_1_1 "push.digest.mismatch-code" mismatch_code:
            "a digest that does not fit is `DIGEST_INVALID`";
        Should V1_1_1 "push.digest.malformed-code" malformed_code:
            "a malformed digest is `DIGEST_INVALID`";
    }
}

/// Pushes `blob`'s bytes under `digest`, which is another's, and looks for both afterwards.
async fn refused(scope: &Scope, blob: &Blob, digest: &str, chunked: bool) -> Verdict {
    let repository = scope.repository();
    let mut upload = repository.start().await?;
    let reply = if chunked {
        upload.append(0, blob.bytes.clone()).await?;
        upload.close(digest).send().await?
    } else {
        let request = upload.close(digest);
        request.body(blob.bytes.clone()).send().await?
    };
    if !reply.status.is_client_error() {
        return Err(reply.fail("a refusal"));
    }
    for digest in [blob.digest.as_str(), digest] {
        let reply = repository.get_blob(digest).send().await?;
        reply.status(&[404])?;
    }
    Ok(())
}

async fn mismatch(scope: Scope) -> Verdict {
    let other = Blob::random(1000).digest;
    refused(&scope, &Blob::random(1000), &other, false).await
}

async fn mismatch_chunked(scope: Scope) -> Verdict {
    let other = Blob::random(1000).digest;
    refused(&scope, &Blob::random(1000), &other, true).await
}

async fn mismatch_sha512(scope: Scope) -> Verdict {
    let other = Algorithm::Sha512.of(b"another blob");
    refused(&scope, &Blob::random(1000), &other, false).await
}

async fn mismatch_status(scope: Scope) -> Verdict {
    let upload = scope.repository().start().await?;
    let reply = upload
        .close(&Blob::random(1000).digest)
        .body(Blob::random(1000).bytes)
        .send()
        .await?;
    reply.status(&[400])?;
    Ok(())
}

async fn malformed(scope: Scope) -> Verdict {
    for digest in crate::checks::malformed_digests() {
        let upload = scope.repository().start().await?;
        let request = upload.close(&digest).body(Blob::random(10).bytes);
        request.send().await?.status(&[400])?;
    }
    Ok(())
}

async fn malformed_chunked(scope: Scope) -> Verdict {
    for digest in crate::checks::malformed_digests() {
        let mut upload = scope.repository().start().await?;
        let chunk = upload.chunk(100);
        upload.append(0, Blob::random(chunk).bytes).await?;
        upload.close(&digest).send().await?.status(&[400])?;
    }
    Ok(())
}

async fn unsupported(scope: Scope) -> Verdict {
    let upload = scope.repository().start().await?;
    let digest = format!("unheard:{}", "0".repeat(64));
    let request = upload.close(&digest).body(Blob::random(10).bytes);
    request.send().await?.status(&[400])?;
    Ok(())
}

async fn missing(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let upload = repository.start().await?;
    let reply = repository
        .follow(http::Method::PUT, &upload.location)
        .body(Blob::random(10).bytes)
        .send()
        .await?;
    reply.status(&[400])?;
    Ok(())
}

async fn mismatch_code(scope: Scope) -> Verdict {
    let upload = scope.repository().start().await?;
    let reply = upload
        .close(&Blob::random(1000).digest)
        .body(Blob::random(1000).bytes)
        .send()
        .await?;
    reply.error_is(&["DIGEST_INVALID"])?;
    Ok(())
}

async fn malformed_code(scope: Scope) -> Verdict {
    let upload = scope.repository().start().await?;
    let reply = upload
        .close("sha256:0123")
        .body(Blob::random(10).bytes)
        .send()
        .await?;
    reply.error_is(&["DIGEST_INVALID"])?;
    Ok(())
}
