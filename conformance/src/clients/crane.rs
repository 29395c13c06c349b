//! crane: go-containerregistry on the command line.

use serde_json::json;

use super::bench::{Bench, Transport, arguments};
use super::client_checks;
use super::layout::{self, Layout, TAG};
use crate::check::{Stop, Verdict};
use crate::digest;

client_checks! {
    "crane" {
        "push-image" push_image: "pushes an image from a layout";
        "push-index" push_index: "pushes an index with all its images";
        "pull-image" pull_image: "pulls an image into a layout";
        "pull-index" pull_index: "pulls an index into a layout";
        "append" append: "pushes an archive as an image of one layer";
        "validate" validate: "validates an image with all its layers";
        "copy-image" copy_image: "copies an image to another repository";
        "copy-index" copy_index: "copies an index to another repository";
        "copy-artifact" copy_artifact: "copies an artifact to another repository";
        "ls" ls: "lists tags";
        "catalog" catalog: "lists repositories";
        "digest" tells_digest: "tells a digest";
        "manifest" manifest: "shows a manifest byte for byte";
        "tag" tag: "makes another tag";
        "delete" delete: "deletes an image";
    }
}

/// Runs crane, which takes plain HTTP and unverified TLS by one flag.
fn command<const N: usize>(bench: &Bench, words: [String; N]) -> Vec<String> {
    let mut words = words.to_vec();
    if bench.transport != Transport::Verified {
        words.push("--insecure".into());
    }
    words
}

async fn push_image(bench: Bench) -> Verdict {
    let layout = bench.layout(Layout::image)?;
    let path = layout.path.display().to_string();
    let words = arguments!["push", path, bench.tagged()];
    bench.run(&command(&bench, words)).await?;
    bench.held(&bench.repository(), &layout).await
}

async fn push_index(bench: Bench) -> Verdict {
    let layout = bench.layout(|path| Layout::index(path)?.with_root_as_index())?;
    let path = layout.path.display().to_string();
    let words = arguments!["push", "--index", path, bench.tagged()];
    bench.run(&command(&bench, words)).await?;
    bench.held(&bench.repository(), &layout).await
}

async fn pull(bench: &Bench, layout: &Layout) -> Verdict {
    let target = bench.path("pulled");
    let words = arguments!["pull", "--format=oci", bench.tagged(), target];
    bench.run(&command(bench, words)).await?;
    layout::holds(target.as_ref(), layout)
}

async fn pull_image(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    pull(&bench, &layout).await
}

async fn pull_index(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::index).await?;
    pull(&bench, &layout).await
}

async fn append(bench: Bench) -> Verdict {
    let layer = bench.layout(Layout::image)?;
    let bytes = &layer.blobs[0].bytes;
    std::fs::write(bench.path("layer.tgz"), bytes)
        .map_err(|error| Stop::fail("layer.tgz", "a file", error.to_string()))?;
    let words = arguments![
        "append",
        "--oci-empty-base",
        "--new_layer",
        "layer.tgz",
        "--new_tag",
        bench.tagged()
    ];
    bench.run(&command(&bench, words)).await?;
    let manifest = bench.manifest(TAG).await?;
    let pushed = manifest["layers"][0]["digest"].as_str().unwrap_or_default();
    let reply = bench.repository().get_blob(pushed).send().await?;
    reply.status(&[200])?;
    if digest::matches(pushed, &reply.body)
        && manifest["layers"].as_array().map(Vec::len) == Some(1)
    {
        return Ok(());
    }
    Err(Stop::fail(
        "the pushed manifest",
        "one layer",
        manifest.to_string(),
    ))
}

async fn validate(bench: Bench) -> Verdict {
    bench.seeded(Layout::image).await?;
    let words = arguments!["validate", "--remote", bench.tagged()];
    bench.run(&command(&bench, words)).await.map(drop)
}

async fn copy(bench: &Bench, layout: &Layout) -> Verdict {
    let words = arguments!["copy", bench.tagged(), bench.name(&bench.other(), TAG)];
    bench.run(&command(bench, words)).await?;
    bench.held(&bench.other(), layout).await
}

async fn copy_image(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    copy(&bench, &layout).await
}

async fn copy_index(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::index).await?;
    copy(&bench, &layout).await
}

async fn copy_artifact(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::artifact).await?;
    copy(&bench, &layout).await
}

async fn ls(bench: Bench) -> Verdict {
    bench.repository().tagged_all(&["a", "b", "c"]).await?;
    let words = arguments!["ls", bench.bare()];
    bench.says(&command(&bench, words), "a\nb\nc").await
}

async fn catalog(bench: Bench) -> Verdict {
    bench.repository().tagged("v1").await?;
    let words = arguments!["catalog", bench.host];
    bench
        .mentions(&command(&bench, words), &[&bench.repository().name])
        .await
}

async fn tells_digest(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::index).await?;
    let words = arguments!["digest", bench.tagged()];
    bench
        .says(&command(&bench, words), &layout.root.digest)
        .await
}

async fn manifest(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::artifact).await?;
    let words = arguments!["manifest", bench.tagged()];
    let output = bench.run(&command(&bench, words)).await?;
    // crane ends its output with a line feed where the manifest has none.
    if output.trim_ascii_end() == layout.root.bytes.trim_ascii_end() {
        return Ok(());
    }
    let got = String::from_utf8_lossy(&output).into_owned();
    Err(Stop::fail("crane manifest", "the pushed bytes", got))
}

async fn tag(bench: Bench) -> Verdict {
    bench.seeded(Layout::image).await?;
    let words = arguments!["tag", bench.tagged(), "v2"];
    bench.run(&command(&bench, words)).await?;
    let reply = bench.repository().tags("").await?;
    if reply.status(&[200])?.json()?["tags"] == json!(["v1", "v2"]) {
        return Ok(());
    }
    Err(reply.fail("the tags `v1` and `v2`"))
}

async fn delete(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    let name = bench.name(&bench.repository(), &layout.root.digest);
    bench
        .run(&command(&bench, arguments!["delete", name]))
        .await?;
    bench.gone(&bench.repository(), &layout.root.digest).await?;
    bench.gone(&bench.repository(), TAG).await
}
