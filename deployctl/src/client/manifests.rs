//! Manifests: read, watched, written under a condition, deleted; by tag or by digest.

use std::time::Duration;

use bytes::Bytes;
use deploy_spec::{Algorithm, Descriptor, Digest, Reference, Tag, media_type};
use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH},
};

use super::{
    ClientError, Repository,
    transport::{Call, content_type},
};

/// The largest manifest that is read; the specification asks registries for 4 MiB.
const MANIFEST_MAX: u64 = 16 * 1024 * 1024;

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A manifest as stored, byte for byte; its bytes have its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type, as the registry names it.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What a registry says of a manifest without sending it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

/// When a manifest may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// Only where the tag does not exist yet (`If-None-Match: *`).
    Absent,
    /// Only where the tag still is this manifest (`If-Match`).
    Matches(Digest),
    /// Never: what a registry stores all the same takes no notice of conditions.
    Never,
}

/// What became of a manifest that was to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is stored.
    Stored,
    /// The condition does not hold, and nothing changed.
    Refused {
        /// What the tag is, where the registry says so.
        current: Option<Digest>,
    },
}

/// What came of watching a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The tag is another manifest than the known one.
    Changed(Manifest),
    /// It is the known one still.
    Unchanged {
        /// True where the registry held the answer back for as long as it was asked to; where
        /// false, the caller has to wait before it asks again.
        waited: bool,
    },
    /// There is no such tag.
    Missing,
}

impl Repository {
    /// Returns a manifest, verified against its digest; nothing where there is none.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Digest`] where the bytes are not the ones asked for.
    pub async fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, ClientError> {
        let call = self.get_manifest(reference);
        let operation = call.operation.clone();
        let response = self.transport.send(call).await?;
        match response.status() {
            StatusCode::OK => self.read(reference, response, &operation).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.transport.refusal(&operation, response).await),
        }
    }

    /// Returns what a tag is once it is no longer the `known` manifest, or when `wait` is over.
    ///
    /// Asks the registry to hold its answer back (`Prefer: wait`, with `If-None-Match`); one
    /// that does not know how to answers at once, and [`Watched::Unchanged`] says so.
    ///
    /// # Errors
    /// As [`Repository::manifest`].
    pub async fn watch_manifest(
        &self,
        tag: &Tag,
        known: Option<&Digest>,
        wait: Duration,
    ) -> Result<Watched, ClientError> {
        let reference = Reference::Tag(tag.clone());
        let mut call = self.get_manifest(&reference);
        if let Some(known) = known {
            call = call.header(IF_NONE_MATCH, &etag(known));
            if wait.as_secs() > 0 {
                call = call.header(PREFER, &format!("wait={}", wait.as_secs()));
                call.patience = wait;
            }
        }
        let operation = call.operation.clone();
        let response = self.transport.send(call).await?;
        let waited = waits(response.headers());
        match response.status() {
            StatusCode::NOT_MODIFIED => Ok(Watched::Unchanged { waited }),
            StatusCode::NOT_FOUND => Ok(Watched::Missing),
            StatusCode::OK => {
                let manifest = self.read(&reference, response, &operation).await?;
                Ok(match known {
                    // The registry does not know conditions.
                    Some(known) if *known == manifest.digest => {
                        Watched::Unchanged { waited: false }
                    }
                    _ => Watched::Changed(manifest),
                })
            }
            _ => Err(self.transport.refusal(&operation, response).await),
        }
    }

    /// Returns what the registry says of a manifest; nothing where there is none.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Protocol`] where the answer names no digest or size.
    pub async fn manifest_head(
        &self,
        reference: &Reference,
    ) -> Result<Option<ManifestHead>, ClientError> {
        let mut call = self.get_manifest(reference);
        call.method = Method::HEAD;
        let operation = call.operation.clone();
        let response = self.transport.send(call).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.transport.refusal(&operation, response).await),
        }
        let headers = response.headers();
        let size = header(headers, &CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let digest = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(_) => announced_digest(headers),
        };
        match (digest, size) {
            (Some(digest), Some(size)) => Ok(Some(ManifestHead {
                digest,
                media_type: content_type(headers).to_owned(),
                size,
            })),
            // Allowed by version 1.1 of the specification: the manifest itself says it.
            _ => Ok(self
                .manifest(reference)
                .await?
                .map(|manifest| ManifestHead {
                    digest: manifest.digest,
                    media_type: manifest.media_type,
                    size: manifest.bytes.len() as u64,
                })),
        }
    }

    /// Writes a manifest under a tag or its digest, where the condition holds.
    ///
    /// Idempotent: a tag that is this very manifest already counts as stored, whatever the
    /// condition, so that an answer lost on the way does no harm. A registry without
    /// conditional requests takes no notice of the condition.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] with code `MANIFEST_BLOB_UNKNOWN` where a blob
    /// is missing.
    pub async fn put_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
        condition: &Condition,
    ) -> Result<Put, ClientError> {
        let digest = match reference {
            Reference::Digest(digest) => Digest::of(digest.algorithm(), &bytes),
            Reference::Tag(_) => Digest::sha256(&bytes),
        };
        let call = self
            .put_call(reference)
            .header(CONTENT_TYPE, media_type)
            .body(bytes);
        let operation = call.operation.clone();
        let call = match condition {
            Condition::Always => call,
            Condition::Absent => call.header(IF_NONE_MATCH, "*"),
            Condition::Matches(known) => call.header(IF_MATCH, &etag(known)),
            Condition::Never => call.header(IF_MATCH, &etag(&nothing())),
        };
        let response = self.transport.send(call).await?;
        let headers = response.headers();
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => {
                match announced_digest(headers) {
                    Some(found) if found.algorithm() == digest.algorithm() && found != digest => {
                        Err(ClientError::Digest {
                            operation,
                            expected: digest,
                            found,
                        })
                    }
                    _ => Ok(Put::Stored),
                }
            }
            StatusCode::PRECONDITION_FAILED => {
                let current = header(headers, &ETAG).and_then(parse_etag);
                let current = match current {
                    Some(current) => Some(current),
                    None => self.manifest_head(reference).await?.map(|head| head.digest),
                };
                Ok(match current {
                    Some(current) if current == digest => Put::Stored,
                    current => Put::Refused { current },
                })
            }
            _ => Err(self.transport.refusal(&operation, response).await),
        }
    }

    /// Writes a manifest under its digest that refers to another one, and returns whether the
    /// registry has taken note of that (`OCI-Subject`).
    ///
    /// # Errors
    /// As [`Repository::put_manifest`].
    pub(super) async fn put_with_subject(
        &self,
        descriptor: &Descriptor,
        bytes: Bytes,
    ) -> Result<bool, ClientError> {
        let call = self
            .put_call(&Reference::Digest(descriptor.digest.clone()))
            .header(CONTENT_TYPE, &descriptor.media_type)
            .body(bytes);
        let operation = call.operation.clone();
        let response = self.transport.send(call).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => {
                Ok(response.headers().contains_key(&OCI_SUBJECT))
            }
            _ => Err(self.transport.refusal(&operation, response).await),
        }
    }

    /// Returns whether the registry takes notice of conditions on writes.
    ///
    /// Asks it to store a manifest that it has already, by digest, on a condition that does not
    /// hold; where that is done all the same, nothing is different than before.
    ///
    /// # Errors
    /// [`ClientError`] where the registry cannot be asked.
    pub async fn honours_conditions(&self, stored: &Manifest) -> Result<bool, ClientError> {
        let call = self
            .put_call(&Reference::Digest(stored.digest.clone()))
            .header(CONTENT_TYPE, &stored.media_type)
            .header(IF_MATCH, &etag(&nothing()))
            .body(stored.bytes.clone());
        let response = self.transport.send(call).await?;
        Ok(response.status() == StatusCode::PRECONDITION_FAILED)
    }

    fn put_call(&self, reference: &Reference) -> Call {
        let operation = format!("put manifest `{reference}` of `{}`", self.name);
        let url = self.url(&format!("manifests/{reference}"));
        self.writing(&operation, Method::PUT, url)
    }

    /// Deletes a tag, or a manifest with all its tags. Returns whether there was one.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`] where the registry deletes nothing, or no tags.
    pub async fn delete_manifest(&self, reference: &Reference) -> Result<bool, ClientError> {
        let operation = format!("delete manifest `{reference}` of `{}`", self.name);
        let url = self.url(&format!("manifests/{reference}"));
        let call = self.deleting(&operation, url);
        let response = self.transport.send(call).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            // What a registry says that knows digests only.
            StatusCode::BAD_REQUEST if matches!(reference, Reference::Tag(_)) => {
                match self.transport.refusal(&operation, response).await {
                    ClientError::Refused { envelope, .. } => Err(ClientError::Unsupported {
                        operation,
                        reason: envelope.to_string(),
                    }),
                    other => Err(other),
                }
            }
            _ => Err(self.transport.refusal(&operation, response).await),
        }
    }

    fn get_manifest(&self, reference: &Reference) -> Call {
        let operation = format!("get manifest `{reference}` of `{}`", self.name);
        let url = self.url(&format!("manifests/{reference}"));
        self.reading(&operation, Method::GET, url)
            .header(ACCEPT, &media_type::MANIFESTS.join(", "))
    }

    async fn read(
        &self,
        reference: &Reference,
        response: reqwest::Response,
        operation: &str,
    ) -> Result<Manifest, ClientError> {
        let headers = response.headers().clone();
        let media_type = content_type(&headers).to_owned();
        // Docker's schema 1, signed (JWS): whoever asked knows best what to say of that.
        let is_signed = media_type.ends_with("jws");
        if !media_type.ends_with("json") && !is_signed && !media_type.is_empty() {
            let reason = format!("a manifest of media type `{}`", media_type.escape_debug());
            return Err(self.transport.unreadable(operation, &headers, reason));
        }
        let bytes = self
            .transport
            .body(response, operation, MANIFEST_MAX)
            .await?;
        let expected = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            // The digest of one that is signed is that of a part of its bytes.
            Reference::Tag(_) if is_signed => None,
            Reference::Tag(_) => announced_digest(&headers),
        };
        let algorithm = expected
            .as_ref()
            .map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = Digest::of(algorithm, &bytes);
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(ClientError::Digest {
                operation: operation.to_owned(),
                expected,
                found: digest,
            });
        }
        Ok(Manifest {
            digest,
            media_type,
            bytes,
        })
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn announced_digest(headers: &HeaderMap) -> Option<Digest> {
    header(headers, &DOCKER_CONTENT_DIGEST)?.parse().ok()
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// The digest of no manifest: none is empty.
fn nothing() -> Digest {
    Digest::sha256(b"")
}

fn parse_etag(text: &str) -> Option<Digest> {
    let text = text.trim();
    text.strip_prefix("W/")
        .unwrap_or(text)
        .trim_matches('"')
        .parse()
        .ok()
}

fn waits(headers: &HeaderMap) -> bool {
    let applied = headers.get_all(PREFERENCE_APPLIED).iter();
    applied
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|preference| preference.trim_start().starts_with("wait"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_are_digests_in_quotes() {
        let digest = Digest::sha256(b"");
        assert_eq!(parse_etag(&etag(&digest)), Some(digest.clone()));
        assert_eq!(parse_etag(&format!("W/{}", etag(&digest))), Some(digest));
        assert_eq!(parse_etag("\"abc\""), None);
    }

    #[test]
    fn a_registry_that_waits_says_so() {
        let mut headers = HeaderMap::new();
        assert!(!waits(&headers));
        headers.insert(
            PREFERENCE_APPLIED,
            "respond-async, wait=30".parse().unwrap(),
        );
        assert!(waits(&headers));
    }
}
