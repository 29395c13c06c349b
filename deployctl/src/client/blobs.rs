//! Blobs out of a registry: asked for by HEAD, streamed, resumed after a break, verified.

use bytes::Bytes;
use deploy_spec::{Digest, Hasher};
use futures::{Stream, stream};
use http::{
    Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE},
};
use reqwest::Response;

use super::{ClientError, Repository};

impl Repository {
    /// Returns the size of a blob; nothing where the repository does not have it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, ClientError> {
        let operation = format!("look for blob `{digest}` in `{}`", self.name);
        let url = self.url(&format!("blobs/{digest}"));
        let call = self.reading(&operation, Method::HEAD, url);
        let response = self.transport.send(call).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                announced_length(&response)
                    .map(Some)
                    .ok_or_else(|| ClientError::Protocol {
                        operation,
                        reason: "it says no size".to_owned(),
                    })
            }
            _ => Err(self.transport.refusal(&operation, response).await),
        }
    }

    /// Returns a reader of a blob. Nothing is asked of the registry before the first read.
    ///
    /// `size` is what the blob's descriptor says; without one the registry's word is taken.
    pub fn blob(&self, digest: &Digest, size: Option<u64>) -> BlobReader {
        BlobReader {
            hasher: Some(Hasher::new(digest.algorithm())),
            ..self.blob_from(digest, size, 0)
        }
    }

    /// Returns a reader that goes on at `offset`, where `hasher` has seen all bytes before.
    pub(super) fn blob_resumed(
        &self,
        digest: &Digest,
        size: Option<u64>,
        offset: u64,
        hasher: Hasher,
    ) -> BlobReader {
        BlobReader {
            hasher: Some(hasher),
            ..self.blob_from(digest, size, offset)
        }
    }

    /// Returns a reader that goes on at `offset` and leaves verifying to whoever receives it.
    pub(super) fn blob_from(&self, digest: &Digest, size: Option<u64>, offset: u64) -> BlobReader {
        BlobReader {
            operation: format!("get blob `{digest}` of `{}`", self.name),
            repository: self.clone(),
            digest: digest.clone(),
            size,
            offset,
            hasher: None,
            response: None,
            pending: Bytes::new(),
            failures: 0,
        }
    }

    /// Returns the bytes of a small blob, verified.
    ///
    /// # Errors
    /// [`ClientError::TooLarge`] beyond `limit` bytes, else as [`BlobReader::next`].
    pub async fn blob_bytes(&self, digest: &Digest, limit: u64) -> Result<Bytes, ClientError> {
        let mut reader = self.blob(digest, None);
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next().await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(ClientError::TooLarge {
                    operation: reader.operation,
                    limit,
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }

    /// Deletes a blob. Returns whether there was one.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`] where the registry deletes nothing.
    pub async fn delete_blob(&self, digest: &Digest) -> Result<bool, ClientError> {
        let operation = format!("delete blob `{digest}` of `{}`", self.name);
        let url = self.url(&format!("blobs/{digest}"));
        let call = self.deleting(&operation, url);
        let response = self.transport.send(call).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(self.transport.refusal(&operation, response).await),
        }
    }
}

/// Reads a blob piece by piece. What it has given is the blob only once it has returned the
/// end: size and digest are checked there.
///
/// A break is mended by asking for the rest (`Range`), as often in a row as the retry policy
/// has attempts.
pub struct BlobReader {
    operation: String,
    repository: Repository,
    digest: Digest,
    size: Option<u64>,
    offset: u64,
    hasher: Option<Hasher>,
    response: Option<Response>,
    /// Read behind what was skipped, and not given out yet.
    pending: Bytes,
    failures: u32,
}

impl BlobReader {
    /// Returns how many bytes of the blob have been read, those before a resumed start included.
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// Returns the size of the blob, where a descriptor or the registry has told it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Returns the hasher of everything up to [`BlobReader::position`]; nothing where that was
    /// compared with the digest, or is left to others.
    pub(super) fn hasher(&self) -> Option<&Hasher> {
        self.hasher.as_ref()
    }

    /// Returns the next piece; nothing at the verified end.
    ///
    /// # Errors
    /// [`ClientError::NotFound`], [`ClientError::Size`], [`ClientError::Digest`], and whatever
    /// befalls a request.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if self.size == Some(self.offset) && self.response.is_none() {
                return self.end();
            }
            match self.advance().await {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(Some(chunk)) => {
                    self.failures = 0;
                    return Ok(Some(chunk));
                }
                Ok(None) => return self.end(),
                Err(error) if error.is_transient() => self.wait_after(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the pieces as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, ClientError>> + Send {
        stream::try_unfold(self, |mut reader| async move {
            Ok(reader.next().await?.map(|chunk| (chunk, reader)))
        })
    }

    async fn wait_after(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.response = None;
        self.pending = Bytes::new();
        self.failures += 1;
        let policy = &self.repository.transport.policy;
        if self.failures >= policy.attempts {
            return Err(error);
        }
        let Some(delay) = policy.delay_after(self.failures, error.retry_after()) else {
            return Err(error);
        };
        tracing::debug!(
            blob.digest = %self.digest, offset = self.offset, %error, "resuming the download"
        );
        tokio::time::sleep(delay).await;
        Ok(())
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, ClientError> {
        let mut response = match self.response.take() {
            Some(response) => response,
            None => self.open().await?,
        };
        let transport = &self.repository.transport;
        let chunk = match std::mem::take(&mut self.pending) {
            pending if pending.is_empty() => {
                transport.chunk(&mut response, &self.operation).await?
            }
            pending => Some(pending),
        };
        let Some(chunk) = chunk else {
            return match self.size {
                Some(size) if self.offset < size => {
                    let reason = format!("it ended after {} of {size} bytes", self.offset);
                    Err(transport.interrupted(&self.operation, reason))
                }
                _ => Ok(None),
            };
        };
        self.take_in(&chunk)?;
        self.response = Some(response);
        Ok(Some(chunk))
    }

    fn take_in(&mut self, chunk: &[u8]) -> Result<(), ClientError> {
        self.offset += chunk.len() as u64;
        if let Some(expected) = self.size.filter(|size| self.offset > *size) {
            return Err(ClientError::Size {
                operation: self.operation.clone(),
                expected,
                found: self.offset,
            });
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(chunk);
        }
        Ok(())
    }

    /// Asks for the rest, and skips what a registry without ranges sends again.
    async fn open(&mut self) -> Result<Response, ClientError> {
        let transport = self.repository.transport.clone();
        let url = self.repository.url(&format!("blobs/{}", self.digest));
        let mut call = (self.repository).reading(&self.operation, Method::GET, url);
        if self.offset > 0 {
            call = call.header(RANGE, &format!("bytes={}-", self.offset));
        }
        let mut response = transport.send(call).await?;
        match response.status() {
            StatusCode::OK => {
                let headers = response.headers();
                self.learn_size(announced_length(&response))
                    // Another size is explained by a page for people, such as one to log in on.
                    .map_err(|error| transport.unless_html(headers, error))?;
                self.skip(&mut response).await?;
                Ok(response)
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(CONTENT_RANGE);
                let range = range
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default();
                let starts = range.trim_start_matches("bytes").trim_start();
                if !starts.starts_with(&format!("{}-", self.offset)) {
                    return Err(ClientError::Protocol {
                        operation: self.operation.clone(),
                        reason: format!("it sent range `{}`", range.escape_debug()),
                    });
                }
                let rest = announced_length(&response);
                self.learn_size(rest.map(|rest| rest + self.offset))?;
                Ok(response)
            }
            StatusCode::NOT_FOUND => Err(ClientError::NotFound {
                operation: self.operation.clone(),
            }),
            _ => Err(transport.refusal(&self.operation, response).await),
        }
    }

    fn learn_size(&mut self, announced: Option<u64>) -> Result<(), ClientError> {
        match (self.size, announced) {
            (Some(expected), Some(found)) if expected != found => Err(ClientError::Size {
                operation: self.operation.clone(),
                expected,
                found,
            }),
            (None, announced) => {
                self.size = announced;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn skip(&mut self, response: &mut Response) -> Result<(), ClientError> {
        let mut left = self.offset;
        while left > 0 {
            let transport = &self.repository.transport;
            let Some(mut chunk) = transport.chunk(response, &self.operation).await? else {
                let reason = "it ended before the part that was missing".to_owned();
                return Err(transport.interrupted(&self.operation, reason));
            };
            let known = left.min(chunk.len() as u64);
            left -= known;
            self.pending =
                chunk.split_off(usize::try_from(known).expect("no longer than the chunk"));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(None);
        };
        let found = hasher.finish();
        if found == self.digest {
            return Ok(None);
        }
        Err(ClientError::Digest {
            operation: self.operation.clone(),
            expected: self.digest.clone(),
            found,
        })
    }
}

/// Returns the number of bytes that a body is announced to have. The HTTP client's own count
/// would be that of what is left to read.
fn announced_length(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}
