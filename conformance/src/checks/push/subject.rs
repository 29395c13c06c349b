//! "Pushing Manifests with Subject".

use serde_json::json;

use crate::check::{Stop, Verdict, checks};
use crate::content::{self, Manifest};
use crate::digest::Algorithm;
use crate::scope::{Repository, Scope};

checks! {
    "Push" {
        Must V1_1_1 "push.subject.missing" missing:
            "a manifest whose subject is not there is accepted";
        Must V1_1_1 "push.subject.missing-index" missing_index:
            "an index whose subject is not there is accepted";
        Must V1_1_1 "push.subject.later" later:
            "the subject may be pushed after what refers to it";
    }
    "Pushing Manifests with Subject" {
        Must V1_1_1 "push.subject.header" header:
            "a registry with referrers answers `OCI-Subject` to an image with a subject";
        Must V1_1_1 "push.subject.header-index" header_index:
            "a registry with referrers answers `OCI-Subject` to an index with a subject";
        Must V1_1_1 "push.subject.header-missing" header_missing:
            "`OCI-Subject` comes also where the subject is not there";
        Must V1_1_1 "push.subject.header-by-digest" header_by_digest:
            "`OCI-Subject` comes also for a push by digest";
        Must V1_1_1 "push.subject.header-again" header_again:
            "`OCI-Subject` comes also when the manifest is pushed again";
        Must V1_1_1 "push.subject.no-header" no_header:
            "a manifest without a subject is answered without `OCI-Subject`";
        May Main "push.subject.sha512" sha512:
            "a subject may be named by its sha512";
    }
}

/// An image that refers to `subject`, with its blobs pushed.
async fn referring(repository: &Repository, subject: serde_json::Value) -> Verdict<Manifest> {
    let mut image = repository.image().await?;
    image["subject"] = subject;
    Ok(Manifest::of(&image))
}

/// Skips where the registry has no referrers API; the rules bind only those that have it.
async fn with_referrers(repository: &Repository) -> Verdict {
    let reply = repository.referrers(&content::unknown_digest(), "").await?;
    match reply.status.as_u16() {
        404 => Err(Stop::skip("the referrers API is not offered (404)")),
        _ => reply.status(&[200]).map(drop),
    }
}

fn absent() -> serde_json::Value {
    json!({"mediaType": content::IMAGE, "digest": content::unknown_digest(), "size": 500})
}

async fn missing(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = referring(&repository, absent()).await?;
    repository
        .put("v1", &manifest)
        .send()
        .await?
        .status(&[201])?;
    let reply = repository.get_manifest("v1").send().await?;
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    Ok(())
}

async fn missing_index(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut index = content::index(&[]);
    index["subject"] = absent();
    let manifest = Manifest::of(&index);
    repository
        .put("v1", &manifest)
        .send()
        .await?
        .status(&[201])?;
    Ok(())
}

async fn later(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = Manifest::of(&repository.image().await?);
    let manifest = referring(&repository, subject.descriptor()).await?;
    repository
        .put(&manifest.digest, &manifest)
        .send()
        .await?
        .status(&[201])?;
    repository
        .put("v1", &subject)
        .send()
        .await?
        .status(&[201])?;
    let reply = repository.get_manifest(&manifest.digest).send().await?;
    reply.status(&[200])?;
    Ok(())
}

async fn header(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    with_referrers(&repository).await?;
    let manifest = referring(&repository, subject.descriptor()).await?;
    let reply = repository.put("v1", &manifest).send().await?;
    reply
        .status(&[201])?
        .header_is("oci-subject", &subject.digest)?;
    Ok(())
}

async fn header_index(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    with_referrers(&repository).await?;
    let mut index = content::index(&[]);
    index["subject"] = subject.descriptor();
    let reply = repository.put("v1", &Manifest::of(&index)).send().await?;
    reply
        .status(&[201])?
        .header_is("oci-subject", &subject.digest)?;
    Ok(())
}

async fn header_missing(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = absent();
    let manifest = referring(&repository, subject.clone()).await?;
    with_referrers(&repository).await?;
    let reply = repository.put("v1", &manifest).send().await?;
    let digest = subject["digest"].as_str().unwrap_or_default();
    reply.status(&[201])?.header_is("oci-subject", digest)?;
    Ok(())
}

async fn header_by_digest(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    with_referrers(&repository).await?;
    let manifest = referring(&repository, subject.descriptor()).await?;
    let reply = repository.put(&manifest.digest, &manifest).send().await?;
    reply
        .status(&[201])?
        .header_is("oci-subject", &subject.digest)?;
    Ok(())
}

async fn header_again(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    with_referrers(&repository).await?;
    let manifest = referring(&repository, subject.descriptor()).await?;
    for _ in 0..2 {
        let reply = repository.put("v1", &manifest).send().await?;
        reply
            .status(&[201])?
            .header_is("oci-subject", &subject.digest)?;
    }
    Ok(())
}

async fn no_header(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    let reply = repository.put("v1", &manifest).send().await?;
    reply.status(&[201])?.header_absent("oci-subject")?;
    Ok(())
}

async fn sha512(scope: Scope) -> Verdict {
    let repository = scope.repository();
    with_referrers_anywhere(&repository).await?;
    let digest = Algorithm::Sha512.of(&content::random_bytes(16));
    let subject = json!({"mediaType": content::IMAGE, "digest": digest, "size": 500});
    let manifest = referring(&repository, subject).await?;
    let reply = repository.put("v1", &manifest).send().await?;
    reply.status(&[201])?.header_is("oci-subject", &digest)?;
    let reply = repository.referrers(&digest, "").await?;
    reply.status(&[200])?;
    if reply.json()?["manifests"][0]["digest"] == json!(manifest.digest) {
        return Ok(());
    }
    Err(reply.fail(format!("the referrer {}", manifest.digest)))
}

/// As [`with_referrers`], in a repository that has content.
async fn with_referrers_anywhere(repository: &Repository) -> Verdict {
    repository.tagged("any").await?;
    with_referrers(repository).await
}
