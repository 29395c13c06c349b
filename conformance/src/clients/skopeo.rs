//! skopeo: containers/image without a store of its own.

use super::bench::{Bench, Transport, arguments};
use super::client_checks;
use super::layout::{self, Layout, TAG};
use crate::check::Verdict;

client_checks! {
    "skopeo" {
        "push-image" push_image: "copies an image from a layout to the registry";
        "push-index" push_index: "copies an index with all its images to the registry";
        "pull-image" pull_image: "copies an image from the registry to a layout";
        "pull-index" pull_index: "copies an index with all its images to a layout";
        "pull-by-digest" pull_by_digest: "copies an image by its digest";
        "copy" copy: "copies an image to another repository";
        "list-tags" list_tags: "lists tags";
        "inspect" inspect: "inspects an image";
        "inspect-raw" inspect_raw: "shows a manifest byte for byte";
        "delete" delete: "deletes an image";
    }
}

fn verify(bench: &Bench, side: &str) -> String {
    let verify = bench.transport == Transport::Verified;
    format!("--{side}tls-verify={verify}")
}

fn docker(name: &str) -> String {
    format!("docker://{name}")
}

fn oci(path: &str) -> String {
    format!("oci:{path}:{TAG}")
}

async fn push(bench: &Bench, layout: &Layout) -> Verdict {
    let source = oci(&layout.path.display().to_string());
    let target = docker(&bench.tagged());
    bench
        .run(&arguments![
            "copy",
            "--all",
            "--preserve-digests",
            verify(bench, "dest-"),
            source,
            target
        ])
        .await?;
    bench.held(&bench.repository(), layout).await
}

async fn push_image(bench: Bench) -> Verdict {
    push(&bench, &bench.layout(Layout::image)?).await
}

async fn push_index(bench: Bench) -> Verdict {
    push(&bench, &bench.layout(Layout::index)?).await
}

async fn pull(bench: &Bench, layout: &Layout, source: &str) -> Verdict {
    let target = bench.path("pulled");
    bench
        .run(&arguments![
            "copy",
            "--all",
            "--preserve-digests",
            verify(bench, "src-"),
            docker(source),
            oci(&target)
        ])
        .await?;
    layout::holds(target.as_ref(), layout)
}

async fn pull_image(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    pull(&bench, &layout, &bench.tagged()).await
}

async fn pull_index(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::index).await?;
    pull(&bench, &layout, &bench.tagged()).await
}

async fn pull_by_digest(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    let name = bench.name(&bench.repository(), &layout.root.digest);
    pull(&bench, &layout, &name).await
}

async fn copy(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    let target = docker(&bench.name(&bench.other(), TAG));
    bench
        .run(&arguments![
            "copy",
            "--preserve-digests",
            verify(&bench, "src-"),
            verify(&bench, "dest-"),
            docker(&bench.tagged()),
            target
        ])
        .await?;
    bench.held(&bench.other(), &layout).await
}

async fn list_tags(bench: Bench) -> Verdict {
    bench.repository().tagged_all(&["a", "b", "c"]).await?;
    let name = docker(&bench.bare());
    let command = arguments!["list-tags", verify(&bench, ""), name];
    bench.mentions(&command, &["\"a\"", "\"b\"", "\"c\""]).await
}

async fn inspect(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    let command = arguments!["inspect", verify(&bench, ""), docker(&bench.tagged())];
    bench.mentions(&command, &[&layout.root.digest]).await
}

async fn inspect_raw(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::index).await?;
    let name = docker(&bench.tagged());
    let command = arguments!["inspect", "--raw", verify(&bench, ""), name];
    bench.writes(&command, &layout.root.bytes).await
}

async fn delete(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    let name = docker(&bench.tagged());
    bench
        .run(&arguments!["delete", verify(&bench, ""), name])
        .await?;
    bench.gone(&bench.repository(), TAG).await?;
    bench.gone(&bench.repository(), &layout.root.digest).await
}
