//! Pushes what the reading scenarios read, before any clock runs, and answers the requests that
//! read it. For `scenario`.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::connection::Connection;
use super::payload::{Payload, Source};
use super::peer::Peer;
use super::work::{push_blob, push_image, put_manifest};
use crate::content;

/// So many layers have the images that are read, as those that are pushed.
const LAYERS: usize = 20;
/// Images that are read in turn, so that no server lives off a single hot key.
const IMAGES: usize = 16;
/// Small blobs that are read in turn.
const SMALL_BLOBS: usize = 64;
const REPOSITORIES: usize = 100;
const REFERRERS: usize = 20;
/// Tags on a page.
const PAGE: usize = 100;
/// Connections that make many tags; a server with group commit is fast with many.
const WRITERS: usize = 16;

/// How a manifest is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    Tag,
    Digest,
}

/// Requests for manifests by `method` and reference.
pub(crate) fn manifests(
    peer: &Peer,
    source: &Source,
    method: &str,
    by: Reference,
) -> anyhow::Result<Vec<String>> {
    let connection = &mut peer.connection();
    let repository = format!("{}-{}", peer.repository, method.to_lowercase());
    let layers: Vec<Payload> = (0..LAYERS).map(|_| source.payload(1024)).collect();
    for layer in &layers {
        push_blob(connection, &repository, layer)?;
    }
    let accept = format!("Accept: {}, {}\r\n", content::IMAGE, content::INDEX);
    (0..IMAGES)
        .map(|number| {
            let image = source.image(layers.clone());
            let config = image.blobs.last().context("find the config")?;
            push_blob(connection, &repository, config)?;
            let tag = format!("t{number}");
            put_manifest(connection, &repository, &tag, &image.manifest)?;
            let reference = match by {
                Reference::Tag => &tag,
                Reference::Digest => &image.manifest.digest,
            };
            let path = format!("/v2/{repository}/manifests/{reference}");
            Ok(connection.head(method, &path, &accept))
        })
        .collect()
}

/// Requests for blobs of `size`.
pub(crate) fn blobs(peer: &Peer, source: &Source, size: usize) -> anyhow::Result<Vec<String>> {
    let connection = &mut peer.connection();
    let repository = format!("{}-blobs", peer.repository);
    // One for each client, where they are large.
    let count = if size > 1024 * 1024 { 4 } else { SMALL_BLOBS };
    (0..count)
        .map(|_| {
            let blob = source.payload(size);
            push_blob(connection, &repository, &blob)?;
            let get = connection.head(
                "GET",
                &format!("/v2/{repository}/blobs/{}", blob.digest),
                "",
            );
            let answer = connection.exchange(&[get.as_bytes()])?;
            ensure!(
                answer.length == size as u64,
                "GET of a blob of {size} bytes answered {} bytes",
                answer.length
            );
            Ok(get)
        })
        .collect()
}

/// A request for the page in the middle of `count` tags.
pub(crate) fn tags(peer: &Peer, source: &Source, count: usize) -> anyhow::Result<Vec<String>> {
    let repository = format!("{}-{count}-tags", peer.repository);
    let image = source.image(Vec::new());
    let mut connection = peer.connection();
    push_image(&mut connection, &repository, &tag(0), &image)?;
    let next = AtomicUsize::new(1);
    let writer = || -> anyhow::Result<()> {
        let mut connection = peer.connection();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            put_manifest(&mut connection, &repository, &tag(number), &image.manifest)?;
        }
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(writer)).collect();
        writers.into_iter().try_for_each(|writer| {
            writer
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let path = format!(
        "/v2/{repository}/tags/list?n={PAGE}&last={}",
        tag(count / 2)
    );
    let page = connection.head("GET", &path, "");
    let wanted = PAGE.min(count.saturating_sub(count / 2 + 1));
    let found = entries(&mut connection, &page, "tags")?;
    ensure!(found == wanted, "a page of {wanted} tags has {found}");
    Ok(vec![page])
}

/// A request for the first page of the catalog, with enough repositories to fill it.
pub(crate) fn catalog(peer: &Peer, source: &Source) -> anyhow::Result<Vec<String>> {
    let connection = &mut peer.connection();
    for number in 0..REPOSITORIES {
        let image = source.image(Vec::new());
        let repository = format!("{}-catalog/{number}", peer.repository);
        push_image(connection, &repository, "latest", &image)?;
    }
    let get = connection.head("GET", &format!("/v2/_catalog?n={REPOSITORIES}"), "");
    let found = entries(connection, &get, "repositories")?;
    ensure!(
        found == REPOSITORIES,
        "a page of {REPOSITORIES} repositories has {found}"
    );
    Ok(vec![get])
}

/// A request for the referrers of an image that has some.
pub(crate) fn referrers(peer: &Peer, source: &Source) -> anyhow::Result<Vec<String>> {
    let connection = &mut peer.connection();
    let repository = format!("{}-referrers", peer.repository);
    let subject = source.image(Vec::new());
    push_image(connection, &repository, "subject", &subject)?;
    let subject = (subject.manifest.digest.as_str(), subject.manifest.len());
    for _ in 0..REFERRERS {
        let image = source.image_about(Vec::new(), Some(subject));
        push_image(connection, &repository, &image.manifest.digest, &image)?;
    }
    let path = format!("/v2/{repository}/referrers/{}", subject.0);
    let get = connection.head("GET", &path, "");
    let found = entries(connection, &get, "manifests")?;
    ensure!(
        found == REFERRERS,
        "a list of {REFERRERS} referrers has {found}"
    );
    Ok(vec![get])
}

/// Names sort as their numbers do.
fn tag(number: usize) -> String {
    format!("t{number:06}")
}

/// How many entries the list in an answer has.
fn entries(connection: &mut Connection, request: &str, list: &str) -> anyhow::Result<usize> {
    let (answer, body) = connection.exchange_kept(&[request.as_bytes()])?;
    ensure!(
        answer.status == 200,
        "not offered: answered {}",
        answer.status
    );
    let document: Value = serde_json::from_slice(&body).context("read a list")?;
    Ok(document[list].as_array().map_or(0, Vec::len))
}
