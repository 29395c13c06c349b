//! "Determining Support" and "Pulling manifests".

use http::Method;
use serde_json::json;

use crate::check::{Verdict, checks};
use crate::content::{self, Manifest};
use crate::digest;
use crate::scope::Scope;

checks! {
    "Determining Support" {
        Must V1_1_1 "pull.api.base" base:
            "GET /v2/ answers 200";
    }
    "Pulling manifests" {
        Must V1_1_1 "pull.manifest.get.by-tag" by_tag:
            "GET of a tag answers 200 and the pushed bytes";
        Must V1_1_1 "pull.manifest.get.by-digest" by_digest:
            "GET of a digest answers 200 and the pushed bytes";
        Must V1_1_1 "pull.manifest.get.index" index:
            "an index is pulled as it was pushed";
        Should V1_1_1 "pull.manifest.get.content-type" content_type:
            "Content-Type is the one that was pushed";
        Should V1_1_1 "pull.manifest.get.content-type-parameters" content_type_parameters:
            "Content-Type has no parameters";
        Should V1_1_1 "pull.manifest.get.digest-header" digest_header:
            "GET answers `Docker-Content-Digest`";
        Must Main "pull.manifest.get.digest-header-required" digest_header:
            "GET answers `Docker-Content-Digest`, always";
        Must V1_1_1 "pull.manifest.get.digest-header-value" digest_value:
            "`Docker-Content-Digest` is a digest of the body";
        Should Practice "pull.manifest.get.accept-other" accept_other:
            "a stored manifest is answered whatever `Accept` says";
        Must V1_1_1 "pull.manifest.get.accept-any" accept_any:
            "a manifest is answered to a client that takes any type";
        Must V1_1_1 "pull.manifest.unknown.tag" unknown_tag:
            "an unknown tag is 404";
        Must V1_1_1 "pull.manifest.unknown.digest" unknown_digest:
            "an unknown digest is 404";
    }
    "Pushing Manifests" {
        Must V1_1_1 "pull.manifest.unknown.repository" unknown_repository:
            "a manifest of an unknown repository is 404";
    }
    "Error Codes" {
        Should V1_1_1 "pull.manifest.unknown.code" unknown_code:
            "an unknown manifest is `MANIFEST_UNKNOWN`";
        Should V1_1_1 "pull.manifest.unknown.repository-code" unknown_repository_code:
            "an unknown repository is `NAME_UNKNOWN` or `MANIFEST_UNKNOWN`";
    }
    "Pulling manifests" {
        Must V1_1_1 "pull.manifest.other-repository" other_repository:
            "a manifest of one repository is 404 in another";
        Must V1_1_1 "pull.manifest.malformed.tag" malformed_tag:
            "a reference that is neither tag nor digest is refused";
        Must V1_1_1 "pull.manifest.malformed.digest" malformed_digest:
            "a malformed digest is refused, not an error of the server";
    }
}

async fn base(scope: Scope) -> Verdict {
    let reply = scope.registry.request(Method::GET, "/v2/").send().await?;
    reply.status(&[200])?;
    Ok(())
}

async fn by_tag(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    let reply = repository.get_manifest("v1").send().await?;
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    Ok(())
}

async fn by_digest(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    let reply = repository.get_manifest(&manifest.digest).send().await?;
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    Ok(())
}

async fn index(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let image = repository.tagged("image").await?;
    let mut descriptor = image.descriptor();
    descriptor["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let index = Manifest::of(&content::index(&[descriptor]));
    repository.push_manifest("index", &index).await?;
    for reference in ["index", &index.digest] {
        let reply = repository.get_manifest(reference).send().await?;
        reply
            .status(&[200])?
            .body_is(&index.bytes)?
            .header_is("content-type", content::INDEX)?;
    }
    Ok(())
}

async fn content_type(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    for reference in ["v1", &manifest.digest] {
        let reply = repository.get_manifest(reference).send().await?;
        let value = reply.status(&[200])?.required("content-type")?;
        if value.split(';').next() != Some(&manifest.media_type) {
            return Err(reply.fail(format!("the Content-Type `{}`", manifest.media_type)));
        }
    }
    Ok(())
}

async fn content_type_parameters(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut manifest = Manifest::of(&repository.image().await?);
    manifest.media_type.push_str("; charset=utf-8");
    repository.push_manifest("v1", &manifest).await?;
    let reply = repository.get_manifest("v1").send().await?;
    reply
        .status(&[200])?
        .header_is("content-type", content::IMAGE)?;
    Ok(())
}

async fn digest_header(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    for reference in ["v1", &manifest.digest] {
        let reply = repository.get_manifest(reference).send().await?;
        reply.status(&[200])?.required("docker-content-digest")?;
    }
    Ok(())
}

async fn digest_value(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    for reference in ["v1", &manifest.digest] {
        let reply = repository.get_manifest(reference).send().await?;
        reply.status(&[200])?;
        if let Some(value) = reply.header("docker-content-digest")
            && !digest::matches(value, &reply.body)
        {
            return Err(reply.fail(format!("`Docker-Content-Digest: {}`", manifest.digest)));
        }
    }
    Ok(())
}

async fn accept_other(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    let reply = repository
        .manifest(Method::GET, "v1")
        .header("Accept", content::DOCKER_IMAGE)
        .send()
        .await?;
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    Ok(())
}

async fn accept_any(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    let reply = repository.manifest(Method::GET, "v1").send().await?;
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    Ok(())
}

async fn unknown_tag(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    let reply = repository.get_manifest("v2").send().await?;
    reply.status(&[404])?;
    Ok(())
}

async fn unknown_digest(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    for algorithm in [digest::Algorithm::Sha256, digest::Algorithm::Sha512] {
        let unknown = algorithm.of(&content::random_bytes(16));
        let reply = repository.get_manifest(&unknown).send().await?;
        reply.status(&[404])?;
    }
    Ok(())
}

async fn unknown_repository(scope: Scope) -> Verdict {
    for reference in ["v1", &content::unknown_digest()] {
        let reply = scope.repository().get_manifest(reference).send().await?;
        reply.status(&[404])?;
    }
    Ok(())
}

async fn unknown_code(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    for reference in ["v2", &content::unknown_digest()] {
        let reply = repository.get_manifest(reference).send().await?;
        reply.status(&[404])?.error_is(&["MANIFEST_UNKNOWN"])?;
    }
    Ok(())
}

async fn unknown_repository_code(scope: Scope) -> Verdict {
    let reply = scope.repository().get_manifest("v1").send().await?;
    reply
        .status(&[404])?
        .error_is(&["NAME_UNKNOWN", "MANIFEST_UNKNOWN"])?;
    Ok(())
}

async fn other_repository(scope: Scope) -> Verdict {
    let manifest = scope.repository().tagged("v1").await?;
    let other = scope.other("other");
    other.tagged("other").await?;
    for reference in ["v1", &manifest.digest] {
        let reply = other.get_manifest(reference).send().await?;
        reply.status(&[404])?;
    }
    Ok(())
}

async fn malformed_tag(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    for reference in [".dot", "-dash", "with%20space", "a+b", &"a".repeat(129)] {
        let reply = repository.get_manifest(reference).send().await?;
        reply.status(&[400, 404])?;
    }
    Ok(())
}

async fn malformed_digest(scope: Scope) -> Verdict {
    let repository = scope.repository();
    repository.tagged("v1").await?;
    for reference in crate::checks::malformed_digests() {
        let reply = repository.get_manifest(&reference).send().await?;
        reply.status(&[400, 404])?;
    }
    Ok(())
}
