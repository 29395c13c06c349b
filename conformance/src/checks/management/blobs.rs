//! "Deleting Blobs".

use http::Method;

use crate::check::{Stop, Verdict, checks};
use crate::content::{self, Blob};
use crate::digest::Algorithm;
use crate::scope::{Repository, Scope};

checks! {
    "Deleting Blobs" {
        May V1_1_1 "management.blob.delete" offered:
            "a blob is deleted with 202";
        Must V1_1_1 "management.blob.disabled" disabled:
            "where blobs are not deleted the answer is 400 or 405";
        Must V1_1_1 "management.blob.gone" gone:
            "a deleted blob is 404";
        Must V1_1_1 "management.blob.unknown" unknown:
            "deleting an unknown blob is 404";
        Must V1_1_1 "management.blob.unknown-repository" unknown_repository:
            "deleting from an unknown repository is 404";
        Must Practice "management.blob.other-repository" other_repository:
            "the blob stays in other repositories";
        Must V1_1_1 "management.blob.again" again:
            "a deleted blob can be pushed again";
        Must Practice "management.blob.used" used:
            "a blob that a manifest uses is deleted or refused, not an error of the server";
        Should Practice "management.blob.malformed" malformed:
            "deleting by a malformed digest is 400 or 404";
        May Main "management.blob.sha512" sha512:
            "a blob is deleted by its sha512";
    }
}

async fn delete(repository: &Repository, digest: &str) -> Verdict {
    let reply = repository.blob(Method::DELETE, digest).send().await?;
    if matches!(reply.status.as_u16(), 400 | 405) {
        return Err(Stop::skip(format!(
            "deleting blobs is not offered ({})",
            reply.status
        )));
    }
    reply.status(&[202])?;
    Ok(())
}

async fn prepared(scope: &Scope) -> Verdict<(Repository, Blob)> {
    let (repository, blob) = (scope.repository(), Blob::random(1000));
    repository.push(&blob).await?;
    Ok((repository, blob))
}

async fn offered(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    delete(&repository, &blob.digest).await
}

async fn disabled(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    let reply = repository.blob(Method::DELETE, &blob.digest).send().await?;
    reply.status(&[202, 400, 405])?;
    Ok(())
}

async fn gone(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    delete(&repository, &blob.digest).await?;
    repository
        .get_blob(&blob.digest)
        .send()
        .await?
        .status(&[404])?;
    repository
        .head_blob(&blob.digest)
        .send()
        .await?
        .status(&[404])?;
    Ok(())
}

async fn unknown(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    delete(&repository, &blob.digest).await?;
    for digest in [&blob.digest, &content::unknown_digest()] {
        let reply = repository.blob(Method::DELETE, digest).send().await?;
        reply.status(&[404])?;
    }
    Ok(())
}

async fn unknown_repository(scope: Scope) -> Verdict {
    let known = scope.other("known");
    let blob = Blob::random(100);
    known.push(&blob).await?;
    let reply = scope
        .repository()
        .blob(Method::DELETE, &blob.digest)
        .send()
        .await?;
    reply.skip_unless(&[404], "deleting blobs")?;
    Ok(())
}

async fn other_repository(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    let other = scope.other("other");
    other.push(&blob).await?;
    delete(&repository, &blob.digest).await?;
    let reply = other.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn again(scope: Scope) -> Verdict {
    let (repository, blob) = prepared(&scope).await?;
    delete(&repository, &blob.digest).await?;
    repository.push(&blob).await?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn used(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let (config, layer) = (content::config(), Blob::random(100));
    repository.push(&config).await?;
    repository.push(&layer).await?;
    let image = content::image(&config, std::slice::from_ref(&layer));
    repository
        .push_manifest("v1", &content::Manifest::of(&image))
        .await?;
    let reply = repository
        .blob(Method::DELETE, &layer.digest)
        .send()
        .await?;
    reply.status(&[202, 400, 403, 405, 409])?;
    Ok(())
}

async fn malformed(scope: Scope) -> Verdict {
    let (repository, _) = prepared(&scope).await?;
    for digest in crate::checks::malformed_digests() {
        let reply = repository.blob(Method::DELETE, &digest).send().await?;
        reply.status(&[400, 404, 405])?;
    }
    Ok(())
}

async fn sha512(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let blob = Blob::by(Algorithm::Sha512, content::random_bytes(100));
    let upload = repository.start().await?;
    let reply = upload.close_with(&blob, None).await?;
    reply.skip_unless(&[201], "sha512")?;
    delete(&repository, &blob.digest).await?;
    let reply = repository.get_blob(&blob.digest).send().await?;
    reply.status(&[404])?;
    Ok(())
}
