//! "Pulling blobs".

use http::Method;

use crate::check::{Verdict, checks};
use crate::content::{self, Blob};
use crate::digest::{self, Algorithm};
use crate::scope::Scope;

checks! {
    "Pulling blobs" {
        Must V1_1_1 "pull.blob.get.content" get:
            "GET answers 200 and the pushed bytes";
        Must V1_1_1 "pull.blob.get.empty" empty:
            "a blob of no bytes is pulled";
        Must V1_1_1 "pull.blob.get.large" large:
            "a blob of 9 MiB is pulled as it was pushed";
    }
    "RFC 9110 8.6" {
        Should Http "pull.blob.get.length" length:
            "GET answers `Content-Length`";
    }
    "Pulling blobs" {
        Should V1_1_1 "pull.blob.get.digest-header" digest_header:
            "GET answers `Docker-Content-Digest`";
        Must Main "pull.blob.get.digest-header-required" digest_header:
            "GET answers `Docker-Content-Digest`, always";
        Must V1_1_1 "pull.blob.get.digest-header-value" digest_value:
            "`Docker-Content-Digest` is a digest of the body";
        Should Practice "pull.blob.get.encoded-colon" encoded_colon:
            "the colon of a digest in the path may be percent-encoded";
        Should Practice "pull.blob.get.no-encoding" encoding:
            "a blob is not compressed on its way, whatever `Accept-Encoding` says";
        Must V1_1_1 "pull.blob.unknown.digest" unknown:
            "an unknown blob is 404";
    }
    "Pushing Manifests" {
        Must V1_1_1 "pull.blob.unknown.repository" unknown_repository:
            "a blob of an unknown repository is 404";
    }
    "Error Codes" {
        Should V1_1_1 "pull.blob.unknown.code" unknown_code:
            "an unknown blob is `BLOB_UNKNOWN`";
    }
    "Pulling blobs" {
        Must V1_1_1 "pull.blob.malformed" malformed:
            "a malformed digest is refused, not an error of the server";
    }
    "Error Codes" {
        Should V1_1_1 "pull.blob.malformed-code" malformed_code:
            "a malformed digest is `DIGEST_INVALID`";
    }
    "Pushing blobs" {
        May Main "pull.blob.sha512" sha512:
            "a blob pushed by its sha512 is pulled by it";
    }
}

async fn get(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(4096));
    repository.push(&blob).await?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn empty(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(0));
    repository.push(&blob).await?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(b"")?;
    let reply = repository.head_blob(&blob.digest).send().await?;
    reply.status(&[200])?.header_is("content-length", "0")?;
    Ok(())
}

async fn large(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(9 << 20));
    repository.push(&blob).await?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn length(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100));
    repository.push(&blob).await?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.header_is("content-length", "100")?;
    Ok(())
}

async fn digest_header(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100));
    repository.push(&blob).await?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.required("docker-content-digest")?;
    Ok(())
}

async fn digest_value(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100));
    repository.push(&blob).await?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?;
    match reply.header("docker-content-digest") {
        Some(value) if !digest::matches(value, &reply.body) => {
            Err(reply.fail(format!("`Docker-Content-Digest: {}`", blob.digest)))
        }
        _ => Ok(()),
    }
}

async fn encoded_colon(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::random(100));
    repository.push(&blob).await?;
    let encoded = blob.digest.replace(':', "%3A");
    let reply = repository.get_blob(&encoded).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn encoding(scope: Scope) -> Verdict {
    let (repository, blob) = (scope.repository(), Blob::of(vec![b'a'; 64 << 10]));
    repository.push(&blob).await?;
    let reply = repository
        .get_blob(&blob.digest)
        .header("Accept-Encoding", "zstd, gzip, br")
        .send()
        .await?;
    reply
        .status(&[200])?
        .header_absent("content-encoding")?
        .body_is(&blob.bytes)?;
    Ok(())
}

async fn unknown(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.push(&Blob::random(8)).await?;
    let reply = repository
        .get_blob(&content::unknown_digest())
        .send()
        .await?;
    reply.status(&[404])?;
    Ok(())
}

async fn unknown_repository(scope: Scope) -> Verdict {
    let reply = scope
        .repository()
        .get_blob(&content::unknown_digest())
        .send()
        .await?;
    reply.status(&[404])?;
    Ok(())
}

async fn unknown_code(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.push(&Blob::random(8)).await?;
    let reply = repository
        .get_blob(&content::unknown_digest())
        .send()
        .await?;
    reply.status(&[404])?.error_is(&["BLOB_UNKNOWN"])?;
    Ok(())
}

async fn malformed(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.push(&Blob::random(8)).await?;
    for digest in crate::checks::malformed_digests() {
        for method in [Method::GET, Method::HEAD] {
            let reply = repository.blob(method, &digest).send().await?;
            reply.status(&[400, 404])?;
        }
    }
    Ok(())
}

async fn malformed_code(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.push(&Blob::random(8)).await?;
    let reply = repository.get_blob("sha256:0123").send().await?;
    reply.status(&[400])?.error_is(&["DIGEST_INVALID"])?;
    Ok(())
}

async fn sha512(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let blob = Blob::by(Algorithm::Sha512, content::random_bytes(1000));
    let upload = repository.start_with("?digest-algorithm=sha512").await?;
    let closed = upload.close_with(&blob, None).await?;
    closed.skip_unless(&[201], "sha512")?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    let reply = repository.head_blob(&blob.digest).send().await?;
    reply.status(&[200])?.header_is("content-length", "1000")?;
    Ok(())
}
