//! What one client does again and again. For `scenario`, which hands it out, and `measure`,
//! which runs it.

use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::connection::{Answer, Connection};
use super::payload::{Image, Payload};
use crate::content;

/// One client's work.
pub(crate) trait Work: Send {
    /// Does one operation and answers how many bytes of content it moved; `None` where all that
    /// was prepared is used up.
    fn next(&mut self, connection: &mut Connection) -> anyhow::Result<Option<u64>>;
}

/// Reads what is there, one request after the other, round and round.
pub(crate) struct Read {
    /// Whole requests, shared by all clients.
    requests: Arc<[String]>,
    at: usize,
}

impl Read {
    /// Starts at one of the requests, so that clients do not all ask for the same.
    pub(crate) fn new(requests: Arc<[String]>, at: usize) -> Self {
        Self { requests, at }
    }
}

impl Work for Read {
    fn next(&mut self, connection: &mut Connection) -> anyhow::Result<Option<u64>> {
        let request = &self.requests[self.at % self.requests.len()];
        self.at += 1;
        let answer = connection.exchange(&[request.as_bytes()])?;
        expect(&answer, 200, request)?;
        Ok(Some(answer.length))
    }
}

/// Pushes blobs, each by POST and PUT.
pub(crate) struct Push {
    repository: String,
    payloads: std::vec::IntoIter<Payload>,
}

impl Push {
    /// Pushes these into one repository.
    pub(crate) fn new(repository: String, payloads: Vec<Payload>) -> Self {
        Self {
            repository,
            payloads: payloads.into_iter(),
        }
    }
}

impl Work for Push {
    fn next(&mut self, connection: &mut Connection) -> anyhow::Result<Option<u64>> {
        let Some(payload) = self.payloads.next() else {
            return Ok(None);
        };
        push_blob(connection, &self.repository, &payload)?;
        Ok(Some(payload.len() as u64))
    }
}

/// Pushes whole images: the blobs one after the other, then the manifest under a tag.
pub(crate) struct PushImages {
    /// The repository and tag of each.
    images: std::vec::IntoIter<(String, String, Image)>,
}

impl PushImages {
    /// Pushes these.
    pub(crate) fn new(images: Vec<(String, String, Image)>) -> Self {
        Self {
            images: images.into_iter(),
        }
    }
}

impl Work for PushImages {
    fn next(&mut self, connection: &mut Connection) -> anyhow::Result<Option<u64>> {
        let Some((repository, tag, image)) = self.images.next() else {
            return Ok(None);
        };
        push_image(connection, &repository, &tag, &image).map(Some)
    }
}

/// Pushes a blob at once, as most clients do.
pub(crate) fn push_blob(
    connection: &mut Connection,
    repository: &str,
    payload: &Payload,
) -> anyhow::Result<()> {
    let path = format!("/v2/{repository}/blobs/uploads/");
    let post = connection.head("POST", &path, "Content-Length: 0\r\n");
    let answer = connection.exchange(&[post.as_bytes()])?;
    expect(&answer, 202, &post)?;
    let location = answer
        .location
        .context("POST of an upload answered without `Location`")?;
    let mark = if location.contains('?') { '&' } else { '?' };
    let put = connection.head(
        "PUT",
        &format!("{location}{mark}digest={}", payload.digest),
        &format!(
            "Content-Type: application/octet-stream\r\nContent-Length: {}\r\n",
            payload.len()
        ),
    );
    let [shared, own] = payload.parts();
    let answer = connection.exchange(&[put.as_bytes(), shared, own])?;
    expect(&answer, 201, &put)
}

/// Puts a manifest under a tag or its digest.
pub(crate) fn put_manifest(
    connection: &mut Connection,
    repository: &str,
    reference: &str,
    manifest: &Payload,
) -> anyhow::Result<()> {
    let put = connection.head(
        "PUT",
        &format!("/v2/{repository}/manifests/{reference}"),
        &format!(
            "Content-Type: {}\r\nContent-Length: {}\r\n",
            content::IMAGE,
            manifest.len()
        ),
    );
    let [shared, own] = manifest.parts();
    let answer = connection.exchange(&[put.as_bytes(), shared, own])?;
    expect(&answer, 201, &put)
}

/// Pushes all that an image refers to and then its manifest; answers the bytes.
pub(crate) fn push_image(
    connection: &mut Connection,
    repository: &str,
    tag: &str,
    image: &Image,
) -> anyhow::Result<u64> {
    let mut bytes = image.manifest.len();
    for blob in &image.blobs {
        push_blob(connection, repository, blob)?;
        bytes += blob.len();
    }
    put_manifest(connection, repository, tag, &image.manifest)?;
    Ok(bytes as u64)
}

fn expect(answer: &Answer, status: u16, request: &str) -> anyhow::Result<()> {
    if answer.status == status {
        return Ok(());
    }
    let line = request.lines().next().unwrap_or_default();
    bail!(
        "{} answered {}",
        line.trim_end_matches(" HTTP/1.1"),
        answer.status
    );
}
