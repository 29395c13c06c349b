//! An upload session as clients drive it: chunks, status, closing, cancelling.
//! For the checks that push blobs.

use bytes::Bytes;
use http::Method;

use crate::check::Verdict;
use crate::content::Blob;
use crate::http::Request;
use crate::reply::Reply;
use crate::scope::Repository;

/// A session and its present address.
#[derive(Clone)]
pub(crate) struct Upload {
    repository: Repository,
    /// Absolute; replaced by the one that each answer brings.
    pub(crate) location: String,
    /// The least length of a chunk that is not the last, 1 where the registry names none.
    pub(crate) minimum: usize,
}

impl Upload {
    /// The session that an answer with `Location` opened.
    pub(crate) fn begun(repository: Repository, reply: &Reply) -> Verdict<Self> {
        Ok(Self {
            location: reply.location()?,
            minimum: reply
                .header("oci-chunk-min-length")
                .and_then(|value| value.parse().ok())
                .unwrap_or(1)
                .max(1),
            repository,
        })
    }

    /// A length for chunks that the registry accepts, at least `wanted`.
    pub(crate) fn chunk(&self, wanted: usize) -> usize {
        wanted.max(self.minimum)
    }

    /// PATCH of `bytes` at `range`, not sent yet.
    pub(crate) fn patch(&self, range: &str, bytes: Bytes) -> Request {
        self.repository
            .follow(Method::PATCH, &self.location)
            .header("Content-Type", "application/octet-stream")
            .header("Content-Range", range)
            .body(bytes)
    }

    /// PATCH without a range, not sent yet and without a body.
    pub(crate) fn patch_stream(&self) -> Request {
        self.repository
            .follow(Method::PATCH, &self.location)
            .header("Content-Type", "application/octet-stream")
    }

    /// PATCH of `bytes` that begin at `start`; the answer is held against every rule of
    /// an accepted chunk, and its address is taken over.
    pub(crate) async fn append(&mut self, start: usize, bytes: Bytes) -> Verdict<Reply> {
        let end = start + bytes.len() - 1;
        let reply = self.patch(&format!("{start}-{end}"), bytes).send().await?;
        self.accepted(reply, end)
    }

    /// Holds the answer against every rule of an accepted chunk that ends at `end`, and takes
    /// its address over.
    pub(crate) fn accepted(&mut self, reply: Reply, end: usize) -> Verdict<Reply> {
        reply
            .status(&[202])?
            .header_is("range", &format!("0-{end}"))?;
        self.location = reply.location()?;
        Ok(reply)
    }

    /// The closing PUT, not sent yet and without a body.
    pub(crate) fn close(&self, digest: &str) -> Request {
        self.repository
            .follow(Method::PUT, &self.location)
            .query("digest", digest)
    }

    /// The closing PUT with the whole blob or, at `range`, its last part.
    pub(crate) async fn close_with(
        &self,
        blob: &Blob,
        range: Option<(usize, usize)>,
    ) -> Verdict<Reply> {
        let request = self
            .close(&blob.digest)
            .header("Content-Type", "application/octet-stream");
        match range {
            None => request.body(blob.bytes.clone()),
            Some((start, end)) => request
                .header("Content-Range", format!("{start}-{}", end - 1))
                .body(blob.bytes.slice(start..end)),
        }
        .send()
        .await
    }

    /// GET of the session's status.
    pub(crate) async fn status(&self) -> Verdict<Reply> {
        self.repository
            .follow(Method::GET, &self.location)
            .send()
            .await
    }

    /// DELETE of the session.
    pub(crate) async fn cancel(&self) -> Verdict<Reply> {
        self.repository
            .follow(Method::DELETE, &self.location)
            .send()
            .await
    }
}
