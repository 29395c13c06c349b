//! Manifests that are refused, or may be, and how.

use http::Method;
use serde_json::json;

use crate::check::{Verdict, checks};
use crate::content::{self, Blob, Manifest};
use crate::digest::Algorithm;
use crate::reply::Reply;
use crate::scope::{Repository, Scope};

checks! {
    "Pushing Manifests" {
        Must V1_1_1 "push.manifest.error.mismatch" mismatch:
            "a manifest that does not fit the digest it is pushed by is refused and not stored";
        Must V1_1_1 "push.manifest.error.mismatch-sha512" mismatch_sha512:
            "a manifest that does not fit its sha512 is refused and not stored";
        Must V1_1_1 "push.manifest.error.malformed-digest" malformed_digest:
            "a malformed digest is refused";
    }
    "Push" {
        Must V1_1_1 "push.manifest.error.missing-blob" missing_blob:
            "a manifest of a missing blob is accepted, or refused as `MANIFEST_BLOB_UNKNOWN`";
        Must V1_1_1 "push.manifest.error.missing-child" missing_child:
            "an index of a missing manifest is accepted, or refused as `MANIFEST_BLOB_UNKNOWN`";
        Must V1_1_1 "push.manifest.error.blob-elsewhere" blob_elsewhere:
            "a blob of another repository only is accepted, or `MANIFEST_BLOB_UNKNOWN`";
    }
    "Error Codes" {
        Should V1_1_1 "push.manifest.error.mismatch-code" mismatch_code:
            "a manifest that does not fit its digest is 400 `DIGEST_INVALID`";
        Should V1_1_1 "push.manifest.error.not-json" not_json:
            "a manifest that is no JSON is 400 `MANIFEST_INVALID`";
        Should V1_1_1 "push.manifest.error.empty" empty:
            "an empty manifest is 400 `MANIFEST_INVALID`";
        Should V1_1_1 "push.manifest.error.not-a-manifest" not_a_manifest:
            "JSON that is no image manifest is 400 `MANIFEST_INVALID`";
        Should V1_1_1 "push.manifest.error.bad-descriptor" bad_descriptor:
            "a descriptor with a malformed digest is 400 `MANIFEST_INVALID` or `DIGEST_INVALID`";
        Should Practice "push.manifest.error.type-differs" type_differs:
            "a `mediaType` that is not the `Content-Type` is accepted or 400, no other error";
        Should V1_1_1 "push.manifest.error.unsupported" unsupported:
            "a method that an endpoint does not have is 405";
        Should V1_1_1 "push.manifest.error.unsupported-code" unsupported_code:
            "a method that an endpoint does not have is `UNSUPPORTED`";
    }
}

/// Pushes a manifest under the digest of another and looks for both afterwards.
async fn refused(scope: &Scope, algorithm: Algorithm) -> Verdict<Reply> {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    let other = algorithm.of(b"another manifest");
    let reply = repository.put(&other, &manifest).send().await?;
    if !reply.status.is_client_error() {
        return Err(reply.fail("a refusal"));
    }
    for digest in [&other, &manifest.digest] {
        let pulled = repository.get_manifest(digest).send().await?;
        pulled.status(&[404])?;
    }
    Ok(reply)
}

async fn mismatch(scope: Scope) -> Verdict {
    refused(&scope, Algorithm::Sha256).await.map(drop)
}

async fn mismatch_sha512(scope: Scope) -> Verdict {
    refused(&scope, Algorithm::Sha512).await.map(drop)
}

async fn mismatch_code(scope: Scope) -> Verdict {
    let reply = refused(&scope, Algorithm::Sha256).await?;
    reply.status(&[400])?.error_is(&["DIGEST_INVALID"])?;
    Ok(())
}

async fn malformed_digest(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    for digest in crate::checks::malformed_digests() {
        let reply = repository.put(&digest, &manifest).send().await?;
        reply.status(&[400, 404, 405])?;
    }
    Ok(())
}

/// Holds an answer to a manifest that refers to something missing.
fn accepted_or_unknown(reply: &Reply) -> Verdict {
    if reply.status == 201 {
        return Ok(());
    }
    reply
        .status(&[400, 404])?
        .error_is(&["MANIFEST_BLOB_UNKNOWN"])?;
    Ok(())
}

async fn missing_blob(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let config = content::config();
    repository.push(&config).await?;
    let image = content::image(&config, &[Blob::random(100)]);
    let reply = repository.put("v1", &Manifest::of(&image)).send().await?;
    accepted_or_unknown(&reply)
}

async fn missing_child(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("other").await?;
    let child = Manifest::of(&content::index(&[]));
    let index = content::index(&[child.descriptor()]);
    let reply = repository.put("v1", &Manifest::of(&index)).send().await?;
    accepted_or_unknown(&reply)
}

async fn blob_elsewhere(scope: Scope) -> Verdict {
    let (repository, elsewhere) = (scope.repository(), scope.other("elsewhere"));
    let (config, layer) = (content::config(), Blob::random(100));
    repository.push(&config).await?;
    elsewhere.push(&layer).await?;
    let image = content::image(&config, std::slice::from_ref(&layer));
    let reply = repository.put("v1", &Manifest::of(&image)).send().await?;
    accepted_or_unknown(&reply)
}

async fn invalid(repository: &Repository, bytes: &str, codes: &[&str]) -> Verdict {
    let manifest = Manifest::raw(content::IMAGE, bytes.to_owned());
    for reference in ["v1", &manifest.digest] {
        let reply = repository.put(reference, &manifest).send().await?;
        reply.status(&[400])?.error_is(codes)?;
        let reply = repository.get_manifest(reference).send().await?;
        reply.status(&[404])?;
    }
    Ok(())
}

async fn not_json(scope: Scope) -> Verdict {
    for bytes in ["not json", "{", "{\"schemaVersion\":2", "\u{0}\u{1}"] {
        invalid(&scope.repository(), bytes, &["MANIFEST_INVALID"]).await?;
    }
    Ok(())
}

async fn empty(scope: Scope) -> Verdict {
    invalid(&scope.repository(), "", &["MANIFEST_INVALID"]).await
}

async fn not_a_manifest(scope: Scope) -> Verdict {
    for bytes in [
        "[]",
        "null",
        "\"text\"",
        "{\"schemaVersion\":2,\"layers\":5}",
    ] {
        invalid(&scope.repository(), bytes, &["MANIFEST_INVALID"]).await?;
    }
    Ok(())
}

async fn bad_descriptor(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut image = repository.image().await?;
    image["layers"][0]["digest"] = json!("sha256:0123");
    let codes = ["MANIFEST_INVALID", "DIGEST_INVALID"];
    invalid(&repository, &image.to_string(), &codes).await
}

async fn type_differs(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut manifest = Manifest::of(&repository.image().await?);
    manifest.media_type = content::INDEX.to_owned();
    let reply = repository.put("v1", &manifest).send().await?;
    reply.status(&[201, 400])?;
    Ok(())
}

/// A method that no endpoint has at this address.
async fn misused(scope: &Scope) -> Verdict<Reply> {
    scope
        .repository()
        .request(Method::POST, "manifests/v1")
        .body(b"{}".as_slice())
        .send()
        .await
}

async fn unsupported(scope: Scope) -> Verdict {
    scope.repository().tagged("v1").await?;
    misused(&scope).await?.status(&[405])?;
    Ok(())
}

async fn unsupported_code(scope: Scope) -> Verdict {
    scope.repository().tagged("v1").await?;
    misused(&scope).await?.error_is(&["UNSUPPORTED"])?;
    Ok(())
}
