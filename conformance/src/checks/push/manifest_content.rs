//! What manifests may hold: "The registry MUST store the manifest in the exact byte
//! representation provided by the client", whatever the image specification lets it say.

use serde_json::{Value, json};

use crate::check::{Verdict, checks};
use crate::content::{self, Blob, Manifest};
use crate::scope::{Repository, Scope};

checks! {
    "Pushing Manifests" {
        Must V1_1_1 "push.manifest.exact.whitespace" whitespace:
            "odd whitespace is kept byte for byte";
        Must V1_1_1 "push.manifest.exact.unknown-fields" unknown_fields:
            "unknown fields are kept byte for byte";
        Must V1_1_1 "push.manifest.exact.text" text:
            "escapes, Unicode and the order of keys are kept byte for byte";
        Must V1_1_1 "push.manifest.exact.index" exact_index:
            "an index is kept byte for byte";
        Must V1_1_1 "push.manifest.no-layers" no_layers:
            "the list of blobs may be empty";
        Should V1_1_1 "push.manifest.no-media-type" no_media_type:
            "a manifest without `mediaType` is taken as what `Content-Type` says";
        Must V1_1_1 "push.manifest.empty-index" empty_index:
            "an index may be empty";
        Must V1_1_1 "push.manifest.nested-index" nested_index:
            "an index may hold an index";
        Must V1_1_1 "push.manifest.artifact" artifact:
            "an artifact with `artifactType` and the empty config is accepted";
        Must V1_1_1 "push.manifest.artifact-index" artifact_index:
            "an index with `artifactType` is accepted";
        Must V1_1_1 "push.manifest.data-field" data_field:
            "descriptors may carry their content";
        Must V1_1_1 "push.manifest.same-layer-twice" same_layer_twice:
            "a layer may come twice";
        May V1_1_1 "push.manifest.unknown-type" unknown_type:
            "a manifest of a type that nobody knows is accepted";
    }
    "image-spec: Descriptors" {
        Should Practice "push.manifest.foreign-layer" foreign_layer:
            "a layer that is not distributed, with `urls`, need not be pushed";
    }
    "image-spec: Compatibility" {
        Should Practice "push.manifest.docker-image" docker_image:
            "an image manifest of Docker is accepted and keeps its type";
        Should Practice "push.manifest.docker-list" docker_list:
            "a manifest list of Docker is accepted and keeps its type";
    }
}

/// Pushes a manifest, pulls it, and holds type and bytes against each other.
async fn round_trip(repository: &Repository, manifest: &Manifest) -> Verdict {
    let reply = repository.put("v1", manifest).send().await?;
    reply.status(&[201])?;
    for reference in ["v1", &manifest.digest] {
        let reply = repository.get_manifest(reference).send().await?;
        reply
            .status(&[200])?
            .body_is(&manifest.bytes)?
            .header_is("content-type", &manifest.media_type)?;
    }
    Ok(())
}

async fn whitespace(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let image = repository.image().await?;
    let pretty = serde_json::to_string_pretty(&image).unwrap_or_default();
    let odd = format!("\r\n\t  {}\n\n \t\n", pretty.replace(':', " :\t"));
    // Colons also stand in digests, which must stay whole.
    let odd = odd.replace("sha256 :\t", "sha256:");
    round_trip(&repository, &Manifest::raw(content::IMAGE, odd)).await
}

async fn unknown_fields(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut image = repository.image().await?;
    image["org.example.field"] = json!({"nested": [1, 2.5, null, true, {"deep": "er"}]});
    image["config"]["unknown"] = json!("field");
    image["layers"][0]["unknown"] = json!([]);
    round_trip(&repository, &Manifest::of(&image)).await
}

async fn text(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let image = repository.image().await?;
    let bytes = format!(
        r#"{{"zzz":"\u00e9é\/\ud83d\ude00 😀","schemaVersion":2,"layers":{},"aaa":1e2,"mediaType":"{}","config":{}}}"#,
        image["layers"],
        content::IMAGE,
        image["config"]
    );
    round_trip(&repository, &Manifest::raw(content::IMAGE, bytes)).await
}

async fn exact_index(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let image = repository.tagged("image").await?;
    let mut index = content::index(&[image.descriptor()]);
    index["unknown"] = json!({"b": 1, "a": 2});
    let pretty = serde_json::to_string_pretty(&index).unwrap_or_default();
    round_trip(&repository, &Manifest::raw(content::INDEX, pretty + "\n")).await
}

async fn no_layers(scope: Scope) -> Verdict {
    let (repository, config) = (scope.repository(), content::config());
    repository.push(&config).await?;
    round_trip(&repository, &Manifest::of(&content::image(&config, &[]))).await
}

async fn no_media_type(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut image = repository.image().await?;
    if let Some(fields) = image.as_object_mut() {
        fields.remove("mediaType");
    }
    round_trip(
        &repository,
        &Manifest::raw(content::IMAGE, image.to_string()),
    )
    .await
}

async fn empty_index(scope: Scope) -> Verdict {
    round_trip(&scope.repository(), &Manifest::of(&content::index(&[]))).await
}

async fn nested_index(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let image = repository.tagged("image").await?;
    let inner = Manifest::of(&content::index(&[image.descriptor()]));
    repository.push_manifest(&inner.digest, &inner).await?;
    let outer = content::index(&[inner.descriptor(), image.descriptor()]);
    round_trip(&repository, &Manifest::of(&outer)).await
}

/// An artifact: the empty config, one blob, and a type of its own.
async fn artifact_value(repository: &Repository) -> Verdict<Value> {
    let (empty, blob) = (content::empty(), Blob::random(500));
    repository.push(&empty).await?;
    repository.push(&blob).await?;
    Ok(json!({
        "schemaVersion": 2,
        "mediaType": content::IMAGE,
        "artifactType": "application/vnd.example.thing.v1",
        "config": empty.descriptor(content::EMPTY),
        "layers": [blob.descriptor("application/vnd.example.data")],
    }))
}

async fn artifact(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let artifact = artifact_value(&repository).await?;
    round_trip(&repository, &Manifest::of(&artifact)).await
}

async fn artifact_index(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let artifact = Manifest::of(&artifact_value(&repository).await?);
    repository.push_manifest("artifact", &artifact).await?;
    let mut index = content::index(&[artifact.descriptor()]);
    index["artifactType"] = json!("application/vnd.example.things.v1");
    round_trip(&repository, &Manifest::of(&index)).await
}

async fn data_field(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut artifact = artifact_value(&repository).await?;
    artifact["config"]["data"] = json!("e30=");
    round_trip(&repository, &Manifest::of(&artifact)).await
}

async fn same_layer_twice(scope: Scope) -> Verdict {
    let (repository, config, layer) = (scope.repository(), content::config(), Blob::random(100));
    repository.push(&config).await?;
    repository.push(&layer).await?;
    let image = content::image(&config, &[layer.clone(), layer]);
    round_trip(&repository, &Manifest::of(&image)).await
}

async fn unknown_type(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let media_type = "application/vnd.example.unheard.v1+json";
    let bytes = json!({"mediaType": media_type, "unique": content::unique()}).to_string();
    let manifest = Manifest::raw(media_type, bytes);
    let reply = repository.put("v1", &manifest).send().await?;
    reply.skip_unless(&[201], "a manifest of any type")?;
    round_trip(&repository, &manifest).await
}

async fn foreign_layer(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let mut image = repository.image().await?;
    let mut layer =
        Blob::random(100).descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar");
    layer["urls"] = json!(["https://example.org/layer.tar"]);
    if let Some(layers) = image["layers"].as_array_mut() {
        layers.push(layer);
    }
    round_trip(&repository, &Manifest::of(&image)).await
}

async fn docker_image(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let manifest = docker(&repository).await?;
    round_trip(&repository, &manifest).await
}

async fn docker(repository: &Repository) -> Verdict<Manifest> {
    let (config, layer) = (content::config(), Blob::random(1000));
    repository.push(&config).await?;
    repository.push(&layer).await?;
    Ok(Manifest::of(&json!({
        "schemaVersion": 2,
        "mediaType": content::DOCKER_IMAGE,
        "config": config.descriptor(content::DOCKER_CONFIG),
        "layers": [layer.descriptor(content::DOCKER_LAYER)],
    })))
}

async fn docker_list(scope: Scope) -> Verdict {
    let repository = scope.repository();
    let image = docker(&repository).await?;
    repository.push_manifest(&image.digest, &image).await?;
    let mut descriptor = image.descriptor();
    descriptor["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let list = Manifest::of(&json!({
        "schemaVersion": 2,
        "mediaType": content::DOCKER_LIST,
        "manifests": [descriptor],
    }));
    round_trip(&repository, &list).await
}
