//! oras: artifacts, their referrers, and copies of anything.

use serde_json::json;

use super::bench::{Bench, Transport, arguments};
use super::client_checks;
use super::layout::{self, Layout, TAG};
use crate::check::{Stop, Verdict};
use crate::content::Blob;

client_checks! {
    "oras" {
        "push-artifact" push_artifact: "pushes a file as an artifact";
        "pull-artifact" pull_artifact: "pulls an artifact's file";
        "push-image" push_image: "copies an image from a layout";
        "push-index" push_index: "copies an index with all its images from a layout";
        "pull-image" pull_image: "copies an image into a layout";
        "pull-index" pull_index: "copies an index into a layout";
        "copy" copy: "copies an index to another repository";
        "attach" attach: "attaches an artifact to an image and discovers it";
        "copy-referrers" copy_referrers: "copies an image with what is attached to it";
        "repo-tags" repo_tags: "lists tags";
        "repo-ls" repo_ls: "lists repositories";
        "resolve" resolve: "tells a digest";
        "manifest-fetch" manifest_fetch: "shows a manifest byte for byte";
        "tag" tag: "makes another tag";
        "blob" blob: "pushes, fetches and deletes a blob";
        "delete" delete: "deletes a manifest";
    }
}

const KIND: &str = "application/vnd.example.kind.v1";

/// The flag for the registry's transport; copies have one for each side.
fn transport(bench: &Bench, side: &str) -> Option<String> {
    match bench.transport {
        Transport::Plain => Some(format!("--{side}plain-http")),
        Transport::Unverified => Some(format!("--{side}insecure")),
        Transport::Verified => None,
    }
}

fn command<const N: usize>(bench: &Bench, sides: &[&str], words: [String; N]) -> Vec<String> {
    let flags = sides.iter().filter_map(|side| transport(bench, side));
    words.into_iter().chain(flags).collect()
}

async fn push_artifact(bench: Bench) -> Verdict {
    let bytes = bench.file("data.bin")?;
    let words = arguments![
        "push",
        "--artifact-type",
        KIND,
        bench.tagged(),
        "data.bin:application/vnd.example.data"
    ];
    bench.run(&command(&bench, &[""], words)).await?;
    let manifest = bench.manifest(TAG).await?;
    let blob = Blob::of(bytes);
    if manifest["artifactType"] != json!(KIND)
        || manifest["layers"][0]["digest"] != json!(blob.digest)
    {
        let expected = format!("an artifact with {}", blob.digest);
        return Err(Stop::fail(
            "the pushed manifest",
            expected,
            manifest.to_string(),
        ));
    }
    let reply = bench.repository().get_blob(&blob.digest).send().await?;
    reply.status(&[200])?.body_is(&blob.bytes)?;
    Ok(())
}

async fn pull_artifact(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::artifact).await?;
    let words = arguments!["pull", bench.tagged(), "--output", "pulled"];
    bench.run(&command(&bench, &[""], words)).await?;
    bench.wrote("pulled/data.bin", &layout.blobs[1].bytes)
}

async fn push(bench: &Bench, layout: &Layout) -> Verdict {
    let source = format!("{}:{TAG}", layout.path.display());
    let words = arguments!["cp", "--from-oci-layout", source, bench.tagged()];
    bench.run(&command(bench, &["to-"], words)).await?;
    bench.held(&bench.repository(), layout).await
}

async fn push_image(bench: Bench) -> Verdict {
    push(&bench, &bench.layout(Layout::image)?).await
}

async fn push_index(bench: Bench) -> Verdict {
    push(&bench, &bench.layout(Layout::index)?).await
}

async fn pull(bench: &Bench, layout: &Layout) -> Verdict {
    let target = bench.path("pulled");
    let to = format!("{target}:{TAG}");
    let words = arguments!["cp", "--to-oci-layout", bench.tagged(), to];
    bench.run(&command(bench, &["from-"], words)).await?;
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

async fn copy(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::index).await?;
    let words = arguments!["cp", bench.tagged(), bench.name(&bench.other(), TAG)];
    bench
        .run(&command(&bench, &["from-", "to-"], words))
        .await?;
    bench.held(&bench.other(), &layout).await
}

/// An image with an attached file, and the digest of the attachment.
async fn attached(bench: &Bench) -> Verdict<(Layout, String)> {
    let layout = bench.seeded(Layout::image).await?;
    bench.file("note.txt")?;
    let words = arguments![
        "attach",
        "--artifact-type",
        KIND,
        bench.tagged(),
        "note.txt:text/plain"
    ];
    bench.run(&command(bench, &[""], words)).await?;
    let words = arguments!["discover", "--format", "json", bench.tagged()];
    let output = bench.run(&command(bench, &[""], words)).await?;
    let found: serde_json::Value = serde_json::from_slice(&output).unwrap_or_default();
    // The list was renamed from `manifests` to `referrers` in oras 1.3.
    let first = [&found["referrers"][0], &found["manifests"][0]]
        .into_iter()
        .find_map(|one| one["digest"].as_str().map(str::to_owned));
    match first {
        Some(digest) => Ok((layout, digest)),
        None => Err(Stop::fail(
            "oras discover",
            "the attachment",
            found.to_string(),
        )),
    }
}

async fn attach(bench: Bench) -> Verdict {
    let (_, digest) = attached(&bench).await?;
    let reply = bench.repository().get_manifest(&digest).send().await?;
    if reply.status(&[200])?.json()?["artifactType"] == json!(KIND) {
        return Ok(());
    }
    Err(reply.fail(format!("an artifact of type {KIND}")))
}

async fn copy_referrers(bench: Bench) -> Verdict {
    let (layout, digest) = attached(&bench).await?;
    let words = arguments!["cp", "-r", bench.tagged(), bench.name(&bench.other(), TAG)];
    bench
        .run(&command(&bench, &["from-", "to-"], words))
        .await?;
    bench.held(&bench.other(), &layout).await?;
    let reply = bench.other().get_manifest(&digest).send().await?;
    reply.status(&[200])?;
    Ok(())
}

async fn repo_tags(bench: Bench) -> Verdict {
    bench.repository().tagged_all(&["a", "b", "c"]).await?;
    let words = arguments!["repo", "tags", bench.bare()];
    bench.says(&command(&bench, &[""], words), "a\nb\nc").await
}

async fn repo_ls(bench: Bench) -> Verdict {
    bench.repository().tagged("v1").await?;
    let words = arguments!["repo", "ls", bench.host];
    let name = bench.repository().name;
    bench
        .mentions(&command(&bench, &[""], words), &[&name])
        .await
}

async fn resolve(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::index).await?;
    let words = arguments!["resolve", bench.tagged()];
    let command = command(&bench, &[""], words);
    bench.says(&command, &layout.root.digest).await
}

async fn manifest_fetch(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::artifact).await?;
    let words = arguments!["manifest", "fetch", bench.tagged()];
    let command = command(&bench, &[""], words);
    bench.writes(&command, &layout.root.bytes).await
}

async fn tag(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    let words = arguments!["tag", bench.tagged(), "v2"];
    bench.run(&command(&bench, &[""], words)).await?;
    let reply = bench.repository().get_manifest("v2").send().await?;
    reply.status(&[200])?.body_is(&layout.root.bytes)?;
    Ok(())
}

async fn blob(bench: Bench) -> Verdict {
    let bytes = bench.file("blob.bin")?;
    let words = arguments!["blob", "push", bench.bare(), "blob.bin"];
    bench.run(&command(&bench, &[""], words)).await?;
    let digest = Blob::of(bytes.clone()).digest;
    let name = bench.name(&bench.repository(), &digest);
    let words = arguments!["blob", "fetch", "--output", "fetched.bin", name];
    bench.run(&command(&bench, &[""], words)).await?;
    bench.wrote("fetched.bin", &bytes)?;
    let words = arguments!["blob", "delete", "--force", name];
    bench.run(&command(&bench, &[""], words)).await?;
    let reply = bench.repository().head_blob(&digest).send().await?;
    reply.status(&[404])?;
    Ok(())
}

async fn delete(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    let words = arguments!["manifest", "delete", "--force", bench.tagged()];
    bench.run(&command(&bench, &[""], words)).await?;
    bench.gone(&bench.repository(), &layout.root.digest).await
}
