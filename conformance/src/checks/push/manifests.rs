//! "Pushing Manifests": what an accepted manifest answers, and what tags do.

use http::Method;

use crate::check::{Stop, Verdict, checks};
use crate::content::{self, Blob, Manifest};
use crate::digest::Algorithm;
use crate::reply::Reply;
use crate::scope::{Repository, Scope};

checks! {
    "Pushing Manifests" {
        Must V1_1_1 "push.manifest.by-tag" by_tag:
            "PUT by tag answers 201";
        Must V1_1_1 "push.manifest.by-digest" by_digest:
            "PUT by digest answers 201";
        Must V1_1_1 "push.manifest.location" location:
            "PUT answers `Location`, and the manifest is pulled from there";
        Must V1_1_1 "push.manifest.digest-header" digest_header:
            "PUT answers the manifest's `Docker-Content-Digest`";
        Must V1_1_1 "push.manifest.again" again:
            "a manifest that is there is pushed again";
        Must V1_1_1 "push.manifest.tag-moves" tag_moves:
            "a tag moves to the manifest pushed last, and the former stays by digest";
        Must V1_1_1 "push.manifest.two-tags" two_tags:
            "one manifest may have several tags";
        Must V1_1_1 "push.manifest.untagged" untagged:
            "a manifest pushed by digest makes no tag";
        Should V1_1_1 "push.manifest.content-type-parameters" parameters:
            "parameters of the pushed `Content-Type` are ignored";
        May Main "push.manifest.sha512" sha512:
            "a manifest is pushed and pulled by its sha512";
        May Main "push.manifest.sha512-blobs" sha512_blobs:
            "a manifest refers to blobs by their sha512";
        Should V1_1_1 "push.manifest.four-megabytes" four_megabytes:
            "a manifest of 4 MiB is accepted";
        Should V1_1_1 "push.manifest.too-large" too_large:
            "a manifest over the registry's limit is 413";
        Should Practice "push.manifest.too-large-streamed" too_large_streamed:
            "a manifest over the limit is 413 also when it does not tell its length";
    }
}

/// The limit that the specification wants registries to reach at least.
const FOUR_MIB: usize = 4 << 20;
/// Registries that take this much are taken to have no limit.
const NO_LIMIT: usize = 64 << 20;
/// How often a push is tried whose answer is lost.
const ATTEMPTS: usize = 3;

async fn by_tag(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    repository
        .put("v1", &manifest)
        .send()
        .await?
        .status(&[201])?;
    Ok(())
}

async fn by_digest(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    let reply = repository.put(&manifest.digest, &manifest).send().await?;
    reply.status(&[201])?;
    let reply = repository.get_manifest(&manifest.digest).send().await?;
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    Ok(())
}

async fn location(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    for reference in ["v1", &manifest.digest] {
        let reply = repository.put(reference, &manifest).send().await?;
        let location = reply.status(&[201])?.location()?;
        let reply = repository
            .follow(Method::GET, &location)
            .header("Accept", crate::scope::ACCEPT)
            .send()
            .await?;
        reply.status(&[200])?.body_is(&manifest.bytes)?;
    }
    Ok(())
}

async fn digest_header(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    for reference in ["v1", &manifest.digest] {
        let reply = repository.put(reference, &manifest).send().await?;
        reply
            .status(&[201])?
            .header_is("docker-content-digest", &manifest.digest)?;
    }
    Ok(())
}

async fn again(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    for reference in ["v1", "v1", &manifest.digest, &manifest.digest] {
        let reply = repository.put(reference, &manifest).send().await?;
        reply.status(&[201])?;
    }
    Ok(())
}

async fn tag_moves(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let first = repository.tagged("v1").await?;
    let second = repository.tagged("v1").await?;
    let reply = repository.get_manifest("v1").send().await?;
    reply.status(&[200])?.body_is(&second.bytes)?;
    let reply = repository.get_manifest(&first.digest).send().await?;
    reply.status(&[200])?.body_is(&first.bytes)?;
    Ok(())
}

async fn two_tags(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged_all(&["one", "two"]).await?;
    for tag in ["one", "two"] {
        let reply = repository.get_manifest(tag).send().await?;
        reply.status(&[200])?.body_is(&manifest.bytes)?;
    }
    Ok(())
}

async fn untagged(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("only").await?;
    let manifest = Manifest::of(&repository.image().await?);
    repository
        .push_manifest(&manifest.digest, &manifest)
        .await?;
    let reply = repository.tags("").await?;
    if reply.status(&[200])?.json()?["tags"] == serde_json::json!(["only"]) {
        return Ok(());
    }
    Err(reply.fail("the tag `only`"))
}

async fn parameters(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut manifest = Manifest::of(&repository.image().await?);
    manifest.media_type.push_str("; charset=utf-8");
    repository
        .put("v1", &manifest)
        .send()
        .await?
        .status(&[201])?;
    Ok(())
}

async fn sha512(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let image = repository.image().await?;
    let manifest = Manifest::by(Algorithm::Sha512, content::IMAGE, image.to_string());
    let reply = repository.put(&manifest.digest, &manifest).send().await?;
    reply.skip_unless(&[201], "sha512")?;
    reply.header_is("docker-content-digest", &manifest.digest)?;
    let reply = repository.get_manifest(&manifest.digest).send().await?;
    reply
        .status(&[200])?
        .body_is(&manifest.bytes)?
        .header_is("docker-content-digest", &manifest.digest)?;
    let reply = repository.head_manifest(&manifest.digest).send().await?;
    reply
        .status(&[200])?
        .header_is("docker-content-digest", &manifest.digest)?;
    Ok(())
}

async fn sha512_blobs(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let config = Blob::by(Algorithm::Sha512, content::config().bytes);
    let layer = Blob::by(Algorithm::Sha512, content::random_bytes(1000));
    for blob in [&config, &layer] {
        let upload = repository.start_with("?digest-algorithm=sha512").await?;
        let reply = upload.close_with(blob, None).await?;
        reply.skip_unless(&[201], "sha512")?;
    }
    let manifest = Manifest::of(&content::image(&config, &[layer]));
    repository
        .put("v1", &manifest)
        .send()
        .await?
        .status(&[201])?;
    let reply = repository.get_manifest("v1").send().await?;
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    Ok(())
}

/// An image manifest that an annotation makes `length` bytes long.
async fn padded(scope: &Scope, length: usize) -> Verdict<Manifest> {
    let mut image = scope.repository().image().await?;
    image["annotations"]["org.example.padding"] = "".into();
    let missing = length.saturating_sub(image.to_string().len());
    image["annotations"]["org.example.padding"] = "p".repeat(missing).into();
    Ok(Manifest::of(&image))
}

async fn four_megabytes(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = padded(&scope, FOUR_MIB).await?;
    repository
        .put("v1", &manifest)
        .send()
        .await?
        .status(&[201])?;
    let reply = repository.get_manifest("v1").send().await?;
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    Ok(())
}

/// Pushes longer and longer manifests until one is refused, which must be by 413.
async fn refused(scope: &Scope, streamed: bool) -> Verdict {
    let mut length = FOUR_MIB + (1 << 20);
    while length <= NO_LIMIT {
        let manifest = padded(scope, length).await?;
        let reply = answered(&scope.repository(), &manifest, streamed).await?;
        if reply.status != 201 {
            return reply.status(&[413]).map(drop);
        }
        length *= 2;
    }
    Err(Stop::skip(format!(
        "SHOULD not followed: a manifest of {} MiB is still accepted",
        NO_LIMIT >> 20
    )))
}

/// Pushes a manifest until the answer could be read.
///
/// A registry may refuse and close the connection while the rest is still being sent, and
/// the answer is then lost on the way; that is no other answer, so it is asked for again.
async fn answered(repository: &Repository, manifest: &Manifest, streamed: bool) -> Verdict<Reply> {
    let mut lost = String::new();
    for _ in 0..ATTEMPTS {
        let request = repository
            .manifest(Method::PUT, "v1")
            .header("Content-Type", content::IMAGE);
        let request = if streamed {
            request.stream(Blob::of(manifest.bytes.clone()).pieces(64 << 10))
        } else {
            request.body(manifest.bytes.clone())
        };
        match request.send().await {
            Err(Stop::Fail(failure)) if failure.got.contains("error sending request") => {
                lost = failure.got;
            }
            other => return other,
        }
    }
    Err(Stop::skip(format!("the answer could not be read: {lost}")))
}

async fn too_large(scope: Scope) -> Verdict {
    refused(&scope, false).await
}

async fn too_large_streamed(scope: Scope) -> Verdict {
    refused(&scope, true).await
}
