//! "Listing Referrers", without pages.

use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::check::{Stop, Verdict, checks};
use crate::content::{self, Blob, Manifest};
use crate::digest::Algorithm;
use crate::reply::Reply;
use crate::scope::{Repository, Scope};

checks! {
    "Listing Referrers" {
        Must V1_1_1 "discovery.referrers.answered" answered:
            "the referrers of a manifest are answered with 200";
        Must V1_1_1 "discovery.referrers.none" none:
            "a digest without referrers answers an empty list";
        Must V1_1_1 "discovery.referrers.unknown-repository" unknown_repository:
            "an unknown repository is no 404";
        Must V1_1_1 "discovery.referrers.content-type" content_type:
            "the answer is an image index, and is called so";
        Must V1_1_1 "discovery.referrers.malformed" malformed:
            "a malformed digest is 400";
        Must V1_1_1 "discovery.referrers.image" image:
            "an image with the subject is listed by digest, size and media type";
        Must V1_1_1 "discovery.referrers.index" index:
            "an index with the subject is listed";
        Must V1_1_1 "discovery.referrers.artifact-type" artifact_type:
            "`artifactType` is the manifest's";
        Must V1_1_1 "discovery.referrers.artifact-type-config" artifact_type_config:
            "without one it is the media type of the image's config";
        Must V1_1_1 "discovery.referrers.artifact-type-none" artifact_type_none:
            "without one it is left out for an index";
        Must V1_1_1 "discovery.referrers.annotations" annotations:
            "annotations of images and indexes are copied";
        Must V1_1_1 "discovery.referrers.before-subject" before_subject:
            "a referrer that came before its subject is listed";
        Must V1_1_1 "discovery.referrers.other-repository" other_repository:
            "referrers of another repository are not listed";
        Must V1_1_1 "discovery.referrers.direct" direct:
            "referrers of referrers are not listed";
        Must V1_1_1 "discovery.referrers.once" once:
            "a referrer that was pushed twice is listed once";
        Must V1_1_1 "discovery.referrers.deleted" deleted:
            "a referrer that was deleted is not listed";
        May Main "discovery.referrers.sha512" sha512:
            "a referrer pushed by its sha512 is listed by it";
        Must Practice "discovery.referrers.concurrent" concurrent:
            "referrers pushed at once are all listed";
        Must Practice "discovery.referrers.no-tags" no_tags:
            "referrers make no tags";
    }
    "Error Codes" {
        Should V1_1_1 "discovery.referrers.malformed-code" malformed_code:
            "a malformed digest is `DIGEST_INVALID`";
    }
}

/// The referrers of `digest`; a skip where the registry has no such API, which the check
/// `discovery.referrers.answered` alone calls a failure.
pub(super) async fn offered(repository: &Repository, digest: &str, query: &str) -> Verdict<Reply> {
    let reply = repository.referrers(digest, query).await?;
    if reply.status == 404 {
        return Err(Stop::skip("the referrers API is not offered (404)"));
    }
    reply.status(&[200])?;
    Ok(reply)
}

/// The descriptors of an answer.
pub(super) fn descriptors(reply: &Reply) -> Verdict<Vec<Value>> {
    match &reply.json()?["manifests"] {
        Value::Array(manifests) => Ok(manifests.clone()),
        _ => Err(reply.fail("`manifests` as a list")),
    }
}

/// An artifact of a type, with annotations, that refers to `subject`; its blobs are pushed.
pub(super) async fn artifact(
    repository: &Repository,
    subject: &Manifest,
    kind: &str,
    annotations: Value,
) -> Verdict<Manifest> {
    let (empty, blob) = (content::empty(), Blob::random(100));
    repository.push(&empty).await?;
    repository.push(&blob).await?;
    Ok(Manifest::of(&json!({
        "schemaVersion": 2,
        "mediaType": content::IMAGE,
        "artifactType": kind,
        "config": empty.descriptor(content::EMPTY),
        "layers": [blob.descriptor("application/vnd.example.data")],
        "subject": subject.descriptor(),
        "annotations": annotations,
    })))
}

pub(super) async fn put(repository: &Repository, manifest: &Manifest) -> Verdict {
    repository
        .push_manifest(&manifest.digest, manifest)
        .await
        .map(drop)
}

pub(super) const KIND: &str = "application/vnd.example.kind.v1+json";
pub(super) const OTHER_KIND: &str = "application/vnd.example.other.v1";

/// A subject and one pushed referrer of it.
pub(super) async fn prepared(scope: &Scope) -> Verdict<(Repository, Manifest, Manifest)> {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    let referrer = artifact(&repository, &subject, KIND, json!({"k": "v"})).await?;
    put(&repository, &referrer).await?;
    Ok((repository, subject, referrer))
}

/// The only descriptor in the list of a subject, which must be that of `referrer`.
async fn only(repository: &Repository, subject: &Manifest, referrer: &Manifest) -> Verdict<Value> {
    let reply = offered(repository, &subject.digest, "").await?;
    match &descriptors(&reply)?[..] {
        [one] if one["digest"] == json!(referrer.digest) => Ok(one.clone()),
        _ => Err(reply.fail(format!("only the referrer {}", referrer.digest))),
    }
}

pub(super) fn is_empty(reply: &Reply) -> Verdict {
    if descriptors(reply)?.is_empty() {
        return Ok(());
    }
    Err(reply.fail("an empty list of `manifests`"))
}

fn has(descriptor: &Value, name: &str, wanted: &Value) -> Verdict {
    if descriptor.get(name).unwrap_or(&Value::Null) == wanted {
        return Ok(());
    }
    Err(Stop::fail(
        "GET of the referrers",
        format!("a descriptor with `{name}`: {wanted}"),
        descriptor.to_string(),
    ))
}

async fn answered(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    let reply = repository.referrers(&subject.digest, "").await?;
    reply.status(&[200])?;
    Ok(())
}

async fn none(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    for digest in [&subject.digest, &content::unknown_digest()] {
        is_empty(&offered(&repository, digest, "").await?)?;
    }
    Ok(())
}

async fn unknown_repository(scope: Scope) -> Verdict {
    let known = scope.other("known");
    let subject = known.tagged("subject").await?;
    offered(&known, &subject.digest, "").await?;
    let reply = scope.repository().referrers(&subject.digest, "").await?;
    reply.status(&[200])?;
    is_empty(&reply)
}

async fn content_type(scope: Scope) -> Verdict {
    let (repository, subject, _) = prepared(&scope).await?;
    let reply = offered(&repository, &subject.digest, "").await?;
    reply.header_is("content-type", content::INDEX)?;
    let value = reply.json()?;
    if value["schemaVersion"] == json!(2) && value["mediaType"] == json!(content::INDEX) {
        return Ok(());
    }
    Err(reply.fail("an image index of schema version 2"))
}

async fn malformed(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    offered(&repository, &subject.digest, "").await?;
    for digest in crate::checks::malformed_digests() {
        // Another algorithm is no invalid syntax.
        if !digest.starts_with("md5:") {
            let reply = repository.referrers(&digest, "").await?;
            reply.status(&[400])?;
        }
    }
    Ok(())
}

async fn malformed_code(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    offered(&repository, &subject.digest, "").await?;
    let reply = repository.referrers("sha256:0123", "").await?;
    reply.status(&[400])?.error_is(&["DIGEST_INVALID"])?;
    Ok(())
}

async fn image(scope: Scope) -> Verdict {
    let (repository, subject, referrer) = prepared(&scope).await?;
    let one = only(&repository, &subject, &referrer).await?;
    has(&one, "mediaType", &json!(content::IMAGE))?;
    has(&one, "size", &json!(referrer.bytes.len()))
}

/// An index with a subject, pushed, and its descriptor in the list.
async fn listed_index(scope: &Scope, kind: Option<&str>) -> Verdict<(Manifest, Value)> {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    let mut index = content::index(&[]);
    index["subject"] = subject.descriptor();
    if let Some(kind) = kind {
        index["artifactType"] = json!(kind);
    }
    let index = Manifest::of(&index);
    put(&repository, &index).await?;
    let one = only(&repository, &subject, &index).await?;
    Ok((index, one))
}

async fn index(scope: Scope) -> Verdict {
    let (index, one) = listed_index(&scope, None).await?;
    has(&one, "mediaType", &json!(content::INDEX))?;
    has(&one, "size", &json!(index.bytes.len()))
}

async fn artifact_type(scope: Scope) -> Verdict {
    let (repository, subject, referrer) = prepared(&scope).await?;
    let one = only(&repository, &subject, &referrer).await?;
    has(&one, "artifactType", &json!(KIND))?;
    let (_, one) = listed_index(&scope_of_index(&scope), Some(OTHER_KIND)).await?;
    has(&one, "artifactType", &json!(OTHER_KIND))
}

/// A second repository for a check that looks at images and at indexes.
fn scope_of_index(scope: &Scope) -> Scope {
    Scope::new(scope.registry.clone(), scope.other("index").name)
}

async fn artifact_type_config(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    let mut image = repository.image().await?;
    image["subject"] = subject.descriptor();
    let referrer = Manifest::of(&image);
    put(&repository, &referrer).await?;
    let one = only(&repository, &subject, &referrer).await?;
    has(&one, "artifactType", &json!(content::IMAGE_CONFIG))
}

async fn artifact_type_none(scope: Scope) -> Verdict {
    let (_, one) = listed_index(&scope, None).await?;
    has(&one, "artifactType", &Value::Null)
}

async fn annotations(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    let wanted = json!({"org.example.one": "1", "org.example.Zwei": "zwei ü \"q\""});
    let referrer = artifact(&repository, &subject, KIND, wanted.clone()).await?;
    put(&repository, &referrer).await?;
    let one = only(&repository, &subject, &referrer).await?;
    has(&one, "annotations", &wanted)?;
    let (index, one) = listed_index(&scope_of_index(&scope), None).await?;
    let value: Value = serde_json::from_slice(&index.bytes).unwrap_or_default();
    has(&one, "annotations", &value["annotations"])
}

async fn before_subject(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = Manifest::of(&repository.image().await?);
    let referrer = artifact(&repository, &subject, KIND, json!({"k": "v"})).await?;
    put(&repository, &referrer).await?;
    only(&repository, &subject, &referrer).await?;
    put(&repository, &subject).await?;
    only(&repository, &subject, &referrer).await.map(drop)
}

async fn other_repository(scope: Scope) -> Verdict {
    let (_, subject, _) = prepared(&scope).await?;
    let other = scope.other("other");
    other.tagged("any").await?;
    is_empty(&offered(&other, &subject.digest, "").await?)
}

async fn direct(scope: Scope) -> Verdict {
    let (repository, subject, referrer) = prepared(&scope).await?;
    let second = artifact(&repository, &referrer, KIND, json!({"k": "v"})).await?;
    put(&repository, &second).await?;
    only(&repository, &subject, &referrer).await?;
    only(&repository, &referrer, &second).await.map(drop)
}

async fn once(scope: Scope) -> Verdict {
    let (repository, subject, referrer) = prepared(&scope).await?;
    put(&repository, &referrer).await?;
    repository.push_manifest("tagged", &referrer).await?;
    only(&repository, &subject, &referrer).await.map(drop)
}

async fn deleted(scope: Scope) -> Verdict {
    let (repository, subject, referrer) = prepared(&scope).await?;
    only(&repository, &subject, &referrer).await?;
    let reply = repository.delete_manifest(&referrer.digest).send().await?;
    reply.skip_unless(&[202], "deleting manifests")?;
    is_empty(&offered(&repository, &subject.digest, "").await?)
}

async fn sha512(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    let plain = artifact(&repository, &subject, KIND, json!({"k": "v"})).await?;
    let referrer = Manifest::by(Algorithm::Sha512, content::IMAGE, plain.bytes);
    let reply = repository.put(&referrer.digest, &referrer).send().await?;
    reply.skip_unless(&[201], "sha512")?;
    only(&repository, &subject, &referrer).await.map(drop)
}

async fn concurrent(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let subject = repository.tagged("subject").await?;
    let mut referrers = Vec::new();
    for number in 0..16 {
        let annotations = json!({"number": number.to_string()});
        referrers.push(artifact(&repository, &subject, KIND, annotations).await?);
    }
    try_join_all(referrers.iter().map(|referrer| put(&repository, referrer))).await?;
    let reply = offered(&repository, &subject.digest, "").await?;
    let mut found: Vec<String> = descriptors(&reply)?
        .iter()
        .filter_map(|one| one["digest"].as_str().map(str::to_owned))
        .collect();
    let mut wanted: Vec<String> = referrers.into_iter().map(|one| one.digest).collect();
    found.sort();
    wanted.sort();
    if found == wanted || reply.next()?.is_some() {
        return Ok(());
    }
    Err(reply.fail("all 16 referrers"))
}

async fn no_tags(scope: Scope) -> Verdict {
    let (repository, subject, _) = prepared(&scope).await?;
    offered(&repository, &subject.digest, "").await?;
    let reply = repository.tags("").await?;
    if reply.status(&[200])?.json()?["tags"] == json!(["subject"]) {
        return Ok(());
    }
    Err(reply.fail("the tag `subject`"))
}
