//! podman: pushes from a store of its own and pulls into it. Containers are not run.

use serde_json::Value;

use super::bench::{Bench, Transport, arguments};
use super::client_checks;
use super::layout::{Layout, TAG};
use crate::check::{Stop, Verdict};

client_checks! {
    "podman" {
        "push" push: "pushes an image from its store";
        "pull" pull: "pulls an image into its store";
        "pull-index" pull_index: "pulls its platform's image of an index";
        "push-again" push_again: "pushes what it pulled to another repository";
        "search-tags" search_tags: "lists tags";
    }
}

/// Runs podman with a store in the temporary home. The driver `vfs` needs no kernel support.
fn command<const N: usize>(bench: &Bench, words: [String; N]) -> Vec<String> {
    let store = [
        format!("--root={}", bench.path("store")),
        format!("--runroot={}", bench.path("run")),
        "--storage-driver=vfs".to_owned(),
        "--cgroup-manager=cgroupfs".to_owned(),
        "--events-backend=none".to_owned(),
    ];
    store.into_iter().chain(words).collect()
}

fn verify(bench: &Bench) -> String {
    format!("--tls-verify={}", bench.transport == Transport::Verified)
}

/// The identifier of an image in the store, which is its config's digest.
async fn stored(bench: &Bench, name: &str) -> Verdict<String> {
    let words = arguments!["image", "inspect", "--format", "{{.Id}}", name];
    let output = bench.run(&command(bench, words)).await?;
    let id = String::from_utf8_lossy(&output).trim().to_owned();
    Ok(format!("sha256:{}", id.trim_start_matches("sha256:")))
}

/// The digest of an image manifest's config.
fn config(manifest: &[u8]) -> String {
    let value: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let digest = value["config"]["digest"].as_str();
    digest.unwrap_or_default().to_owned()
}

fn same(what: &str, wanted: &str, got: &str) -> Verdict {
    if wanted == got && !wanted.is_empty() {
        return Ok(());
    }
    Err(Stop::fail(what, format!("the config {wanted}"), got))
}

/// Holds that the repository's image is whole and has the config that the store has.
async fn pushed(bench: &Bench, manifest: &Value, wanted: &str) -> Verdict {
    let digest = manifest["config"]["digest"].as_str().unwrap_or_default();
    same("the pushed manifest", wanted, digest)?;
    let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
    for blob in layers.iter().chain([&manifest["config"]]) {
        let digest = blob["digest"].as_str().unwrap_or_default();
        let reply = bench.repository().get_blob(digest).send().await?;
        reply.status(&[200])?;
        if !crate::digest::matches(digest, &reply.body) {
            return Err(reply.fail(format!("content that fits {digest}")));
        }
    }
    Ok(())
}

async fn push(bench: Bench) -> Verdict {
    let layout = bench.layout(Layout::image)?;
    // podman makes a name of the path, which must be in lower case; so it is relative.
    let directory = layout.path.file_name().unwrap_or_default();
    let source = format!("oci:{}:{TAG}", directory.display());
    let words = arguments!["pull", "--quiet", source];
    let output = bench.run(&command(&bench, words)).await?;
    let id = String::from_utf8_lossy(&output).trim().to_owned();
    let target = format!("docker://{}", bench.tagged());
    let words = arguments!["push", "--quiet", verify(&bench), id, target];
    bench.run(&command(&bench, words)).await?;
    let manifest = bench.manifest(TAG).await?;
    pushed(&bench, &manifest, &config(&layout.root.bytes)).await
}

async fn pull(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::image).await?;
    let words = arguments!["pull", "--quiet", verify(&bench), bench.tagged()];
    bench.run(&command(&bench, words)).await?;
    let id = stored(&bench, &bench.tagged()).await?;
    same("the image in the store", &config(&layout.root.bytes), &id)
}

async fn pull_index(bench: Bench) -> Verdict {
    let layout = bench.seeded(Layout::index).await?;
    let words = arguments![
        "pull",
        "--quiet",
        verify(&bench),
        "--arch=arm64",
        bench.tagged()
    ];
    bench.run(&command(&bench, words)).await?;
    let id = stored(&bench, &bench.tagged()).await?;
    same(
        "the image in the store",
        &config(&layout.children[1].bytes),
        &id,
    )
}

async fn push_again(bench: Bench) -> Verdict {
    let layout = bench.layout(Layout::image)?;
    bench.seed(&bench.other(), &layout).await?;
    let name = bench.name(&bench.other(), TAG);
    let words = arguments!["pull", "--quiet", verify(&bench), name];
    bench.run(&command(&bench, words)).await?;
    let words = arguments!["push", "--quiet", verify(&bench), name, bench.tagged()];
    bench.run(&command(&bench, words)).await?;
    let manifest = bench.manifest(TAG).await?;
    pushed(&bench, &manifest, &config(&layout.root.bytes)).await
}

async fn search_tags(bench: Bench) -> Verdict {
    bench.repository().tagged_all(&["one", "two"]).await?;
    let name = bench.bare();
    let words = arguments!["search", "--list-tags", verify(&bench), name];
    let command = command(&bench, words);
    bench.mentions(&command, &["one", "two"]).await
}
