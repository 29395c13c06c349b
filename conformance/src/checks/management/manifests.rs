//! "Deleting Manifests".

use serde_json::json;

use crate::check::{Stop, Verdict, checks};
use crate::content::{self, Manifest};
use crate::digest::Algorithm;
use crate::scope::{Repository, Scope};

checks! {
    "Deleting Manifests" {
        May V1_1_1 "management.manifest.delete" offered:
            "a manifest is deleted by digest with 202";
        Must V1_1_1 "management.manifest.disabled" disabled:
            "where manifests are not deleted the answer is 400 or 405";
        Must V1_1_1 "management.manifest.gone" gone:
            "a deleted manifest is 404 by its digest";
        Must V1_1_1 "management.manifest.tags-gone" tags_gone:
            "all tags that led to it are 404";
        Must Practice "management.manifest.tags-not-listed" tags_not_listed:
            "the tags that led to it are not listed";
        Must V1_1_1 "management.manifest.others-stay" others_stay:
            "other manifests, tags and repositories stay";
        Should V1_1_1 "management.manifest.unknown" unknown:
            "deleting an unknown manifest is 404";
        Must V1_1_1 "management.manifest.unknown-repository" unknown_repository:
            "deleting from an unknown repository is 404";
        Must V1_1_1 "management.manifest.again" again:
            "a deleted manifest can be pushed again";
        Must Practice "management.manifest.index-children" index_children:
            "deleting an index keeps the manifests that it lists";
        Must V1_1_1 "management.manifest.untagged" untagged:
            "a manifest without tags is deleted";
        May Main "management.manifest.sha512" sha512:
            "a manifest is deleted by its sha512";
    }
}

async fn delete(repository: &Repository, digest: &str) -> Verdict {
    let reply = repository.delete_manifest(digest).send().await?;
    if matches!(reply.status.as_u16(), 400 | 405) {
        return Err(Stop::skip(format!(
            "deleting manifests is not offered ({})",
            reply.status
        )));
    }
    reply.status(&[202])?;
    Ok(())
}

async fn offered(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    delete(&repository, &manifest.digest).await
}

async fn disabled(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    let reply = repository.delete_manifest(&manifest.digest).send().await?;
    reply.status(&[202, 400, 405])?;
    Ok(())
}

async fn gone(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    delete(&repository, &manifest.digest).await?;
    let digest = &manifest.digest;
    repository
        .get_manifest(digest)
        .send()
        .await?
        .status(&[404])?;
    repository
        .head_manifest(digest)
        .send()
        .await?
        .status(&[404])?;
    Ok(())
}

async fn tags_gone(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged_all(&["a", "b", "c"]).await?;
    delete(&repository, &manifest.digest).await?;
    for tag in ["a", "b", "c"] {
        repository.get_manifest(tag).send().await?.status(&[404])?;
    }
    Ok(())
}

async fn tags_not_listed(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged_all(&["a", "c"]).await?;
    repository.tagged("b").await?;
    delete(&repository, &manifest.digest).await?;
    let reply = repository.tags("").await?;
    if reply.status(&[200])?.json()?["tags"] == json!(["b"]) {
        return Ok(());
    }
    Err(reply.fail("the tag `b`"))
}

async fn others_stay(scope: Scope) -> Verdict {
    let (repository, other) = (scope.repository(), scope.other("other"));
    let gone = Manifest::of(&repository.image().await?);
    repository.push_manifest("gone", &gone).await?;
    let kept = repository.tagged("kept").await?;
    let elsewhere = other.tagged("elsewhere").await?;
    delete(&repository, &gone.digest).await?;
    for (repository, tag, manifest) in [
        (&repository, "kept", &kept),
        (&other, "elsewhere", &elsewhere),
    ] {
        for reference in [tag, &manifest.digest] {
            let reply = repository.get_manifest(reference).send().await?;
            reply.status(&[200])?.body_is(&manifest.bytes)?;
        }
    }
    Ok(())
}

async fn unknown(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    repository.tagged("v2").await?;
    delete(&repository, &manifest.digest).await?;
    for digest in [&manifest.digest, &content::unknown_digest()] {
        let reply = repository.delete_manifest(digest).send().await?;
        reply.status(&[404])?;
    }
    Ok(())
}

async fn unknown_repository(scope: Scope) -> Verdict {
    let known = scope.other("known");
    let manifest = known.tagged("v1").await?;
    let reply = scope
        .repository()
        .delete_manifest(&manifest.digest)
        .send()
        .await?;
    reply.skip_unless(&[404], "deleting manifests")?;
    Ok(())
}

async fn again(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = repository.tagged("v1").await?;
    delete(&repository, &manifest.digest).await?;
    repository.push_manifest("v1", &manifest).await?;
    for reference in ["v1", &manifest.digest] {
        let reply = repository.get_manifest(reference).send().await?;
        reply.status(&[200])?.body_is(&manifest.bytes)?;
    }
    Ok(())
}

async fn index_children(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let image = Manifest::of(&repository.image().await?);
    repository.push_manifest(&image.digest, &image).await?;
    let index = Manifest::of(&content::index(&[image.descriptor()]));
    repository.push_manifest("index", &index).await?;
    delete(&repository, &index.digest).await?;
    let reply = repository.get_manifest(&image.digest).send().await?;
    reply.status(&[200])?.body_is(&image.bytes)?;
    Ok(())
}

async fn untagged(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = Manifest::of(&repository.image().await?);
    repository
        .push_manifest(&manifest.digest, &manifest)
        .await?;
    delete(&repository, &manifest.digest).await?;
    let reply = repository.get_manifest(&manifest.digest).send().await?;
    reply.status(&[404])?;
    Ok(())
}

async fn sha512(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let image = repository.image().await?;
    let manifest = Manifest::by(Algorithm::Sha512, content::IMAGE, image.to_string());
    let reply = repository.put(&manifest.digest, &manifest).send().await?;
    reply.skip_unless(&[201], "sha512")?;
    delete(&repository, &manifest.digest).await?;
    let reply = repository.get_manifest(&manifest.digest).send().await?;
    reply.status(&[404])?;
    Ok(())
}
