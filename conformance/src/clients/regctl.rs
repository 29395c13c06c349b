//! regctl: regclient on the command line.

use super::bench::{Bench, Transport, arguments};
use super::client_checks;
use super::layout::{self, Layout, TAG};
use crate::check::{Stop, Verdict};
use crate::content::Blob;

client_checks! {
    "regctl" {
        "push-image" push_image: "copies an image from a layout";
        "push-index" push_index: "copies an index with all its images from a layout";
        "push-artifact" push_artifact: "copies an artifact from a layout";
        "pull-image" pull_image: "copies an image into a layout";
        "pull-index" pull_index: "copies an index into a layout";
        "pull-artifact" pull_artifact: "copies an artifact into a layout";
        "copy" copy: "copies an index to another repository";
        "artifact-put" artifact_put: "pushes a file as an artifact and gets it";
        "referrers" referrers: "pushes an artifact with a subject and lists it";
        "tag-ls" tag_ls: "lists tags";
        "tag-delete" tag_delete: "deletes one tag and keeps the others";
        "repo-ls" repo_ls: "lists repositories";
        "manifest-head" manifest_head: "tells a digest";
        "manifest-get" manifest_get: "shows a manifest byte for byte";
        "blob-get" blob_get: "gets a blob";
        "delete" delete: "deletes a manifest";
    }
}

/// Runs regctl with the registry's transport named on the command line.
fn command<const N: usize>(bench: &Bench, words: [String; N]) -> Vec<String> {
    let tls = match bench.transport {
        Transport::Plain => "disabled",
        Transport::Unverified => "insecure",
        Transport::Verified => "enabled",
    };
    let host = format!("--host=reg={},tls={tls}", bench.host);
    [host].into_iter().chain(words).collect()
}

fn ocidir(path: &str) -> String {
    format!("ocidir://{path}:{TAG}")
}

async fn push(bench: &Bench, layout: &Layout) -> Verdict {
    let source = ocidir(&layout.path.display().to_string());
    let words = arguments!["image", "copy", source, bench.tagged()];
    bench.run(&command(bench, words)).await?;
    bench.held(&bench.repository(), layout).await
}

async fn push_image(bench: Bench) -> Verdict {
    push(&bench, &bench.layout(Layout::image)?).await
}

async fn push_index(bench: Bench) -> Verdict {
    push(&bench, &bench.layout(Layout::index)?).await
}

async fn push_artifact(bench: Bench) -> Verdict {
    push(&bench, &bench.layout(Layout::artifact)?).await
}

async fn pull(bench: &Bench, layout: &Layout) -> Verdict {
    let target = bench.path("pulled");
    let words = arguments!["image", "copy", bench.tagged(), ocidir(&target)];
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

async fn pull_artifact(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::artifact).await?;
    pull(&bench, &layout).await
}

async fn copy(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::index).await?;
    let target = bench.name(&bench.other(), TAG);
    let words = arguments!["image", "copy", bench.tagged(), target];
    bench.run(&command(&bench, words)).await?;
    bench.held(&bench.other(), &layout).await
}

async fn artifact_put(bench: Bench) -> Verdict {
    let bytes = bench.file("data.bin")?;
    let kind = "application/vnd.example.kind.v1";
    let words = arguments![
        "artifact",
        "put",
        "--artifact-type",
        kind,
        "--file",
        "data.bin",
        bench.tagged()
    ];
    bench.run(&command(&bench, words)).await?;
    let reply = bench
        .repository()
        .get_blob(&Blob::of(bytes.clone()).digest)
        .send()
        .await?;
    reply.status(&[200])?.body_is(&bytes)?;
    let words = arguments!["artifact", "get", bench.tagged()];
    bench.writes(&command(&bench, words), &bytes).await
}

async fn referrers(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    bench.file("data.bin")?;
    let kind = "application/vnd.example.kind.v1";
    let subject = bench.tagged();
    let words = arguments![
        "artifact",
        "put",
        "--artifact-type",
        kind,
        "--file",
        "data.bin",
        "--subject",
        subject
    ];
    bench.run(&command(&bench, words)).await?;
    let words = arguments!["artifact", "list", subject, "--format", "{{json .}}"];
    bench
        .mentions(&command(&bench, words), &[kind, &layout.root.digest])
        .await
}

async fn tag_ls(bench: Bench) -> Verdict {
    bench.repository().tagged_all(&["a", "b", "c"]).await?;
    let words = arguments!["tag", "ls", bench.bare()];
    bench.says(&command(&bench, words), "a\nb\nc").await
}

async fn tag_delete(bench: Bench) -> Verdict {
    let repository = bench.repository();
    let manifest = repository.tagged_all(&["a", "b"]).await?;
    let words = arguments!["tag", "delete", bench.name(&repository, "a")];
    bench.run(&command(&bench, words)).await?;
    bench.gone(&repository, "a").await?;
    let reply = repository.get_manifest("b").send().await?;
    reply.status(&[200])?.body_is(&manifest.bytes)?;
    Ok(())
}

async fn repo_ls(bench: Bench) -> Verdict {
    bench.repository().tagged("v1").await?;
    let words = arguments!["repo", "ls", bench.host];
    let name = bench.repository().name;
    let output = bench.run(&command(&bench, words)).await?;
    if String::from_utf8_lossy(&output).contains(&name) {
        return Ok(());
    }
    // regctl asks for one page only; a name that lies behind it is asked for by itself.
    let before = format!("{name}-");
    let before = &before[..before.len() - 2];
    let words = arguments!["repo", "ls", "--last", before, "--limit", "20", bench.host];
    bench.mentions(&command(&bench, words), &[&name]).await
}

async fn manifest_head(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::index).await?;
    let words = arguments!["manifest", "head", bench.tagged()];
    let command = command(&bench, words);
    bench.says(&command, &layout.root.digest).await
}

async fn manifest_get(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::artifact).await?;
    let words = arguments!["manifest", "get", "--format", "raw-body", bench.tagged()];
    let command = command(&bench, words);
    bench.writes(&command, &layout.root.bytes).await
}

async fn blob_get(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    let blob = &layout.blobs[0];
    let words = arguments!["blob", "get", bench.bare(), blob.digest];
    bench.writes(&command(&bench, words), &blob.bytes).await
}

async fn delete(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    let name = bench.name(&bench.repository(), &layout.root.digest);
    let words = arguments!["manifest", "delete", name];
    bench.run(&command(&bench, words)).await?;
    bench.gone(&bench.repository(), &layout.root.digest).await?;
    match bench.repository().tags("").await?.json()?["tags"].as_array() {
        Some(tags) if !tags.is_empty() => Err(Stop::fail("tags", "none", format!("{tags:?}"))),
        _ => Ok(()),
    }
}
