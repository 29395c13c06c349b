//! Upload sessions: begun, mounted instead, asked for their state, closed, cancelled
//! (distribution-spec, "Pushing blobs"). Used by `uploads` and `sending`.

use deploy_spec::{Digest, RepositoryName};
use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE},
};
use reqwest::Response;
use url::Url;

use super::{ClientError, Repository, retry::Activity, transport::Call};

const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");
const OCTETS: &str = "application/octet-stream";

/// An upload that a registry waits for.
pub(super) struct Session {
    pub(super) location: Url,
    /// How many bytes the registry has.
    pub(super) offset: u64,
    /// The smallest chunk that it takes, the last one excepted.
    pub(super) chunk_min: u64,
}

/// What a registry did with a request to mount a blob.
pub(super) enum Mount {
    Mounted,
    /// It waits for an upload instead.
    Session(Session),
    /// It can do neither.
    Declined,
}

impl Repository {
    pub(super) async fn begin(&self, digest: &Digest) -> Result<Session, ClientError> {
        let operation = format!("upload blob `{digest}` to `{}`", self.name);
        let url = self.url("blobs/uploads/");
        let call = self.writing(&operation, Method::POST, url);
        let response = self.transport.send(call).await?;
        match response.status() {
            StatusCode::ACCEPTED => session(&operation, &response),
            _ => Err(self.transport.refusal(&operation, response).await),
        }
    }

    pub(super) async fn try_mount(
        &self,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<Mount, ClientError> {
        let operation = format!("mount blob `{digest}` into `{}`", self.name);
        let mut url = self.url("blobs/uploads/");
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string());
        if let Some(from) = from {
            url.query_pairs_mut().append_pair("from", from.as_ref());
        }
        let mut call = self.writing(&operation, Method::POST, url);
        call.scope.from = from.cloned();
        let response = self.transport.send(call).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Mount::Mounted),
            StatusCode::ACCEPTED => session(&operation, &response).map(Mount::Session),
            // Registries refuse in many ways to mount from where the client may not read.
            status if status.is_client_error() => Ok(Mount::Declined),
            _ => Err(self.transport.refusal(&operation, response).await),
        }
    }

    /// Tells the registry that nothing will come. Whether it listens makes no difference: it
    /// lets go of forgotten sessions by itself.
    pub(super) async fn cancel(&self, digest: &Digest, session: Session) {
        let policy = &self.transport.policy;
        for failed in 1..=policy.attempts {
            let call = self.session_call(digest, Method::DELETE, session.location.clone());
            match self.transport.send(call).await {
                // A request that broke off may still be at it.
                Ok(response) if response.status() == StatusCode::CONFLICT => {
                    tokio::time::sleep(policy.delay(failed)).await;
                }
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%error, "the unused upload session stays");
                    return;
                }
            }
        }
    }

    /// Sends the whole blob and closes the session.
    pub(super) async fn put_whole(
        &self,
        digest: &Digest,
        session: &Session,
        size: u64,
        body: reqwest::Body,
        activity: &Activity,
    ) -> Result<(), ClientError> {
        let call = self
            .session_call(
                digest,
                Method::PUT,
                closing(session.location.clone(), digest),
            )
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, &size.to_string());
        let response = self.transport.attempt(&call, body, activity).await?;
        self.closed(&call.operation, response).await
    }

    /// Sends one chunk and returns the session behind it.
    pub(super) async fn patch(
        &self,
        digest: &Digest,
        session: &Session,
        length: u64,
        body: reqwest::Body,
        activity: &Activity,
    ) -> Result<Session, ClientError> {
        let first = session.offset;
        let call = self
            .session_call(digest, Method::PATCH, session.location.clone())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, &length.to_string())
            .header(CONTENT_RANGE, &format!("{first}-{}", first + length - 1));
        let response = self.transport.attempt(&call, body, activity).await?;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED => Ok(Session {
                location: location(&response).unwrap_or_else(|| session.location.clone()),
                offset: received(response.headers()).unwrap_or(first + length),
                chunk_min: session.chunk_min,
            }),
            _ => Err(self.transport.refusal(&call.operation, response).await),
        }
    }

    /// Asks how far the session is; nothing where the registry has forgotten it.
    pub(super) async fn status(
        &self,
        digest: &Digest,
        known: &Session,
    ) -> Result<Option<Session>, ClientError> {
        let call = self.session_call(digest, Method::GET, known.location.clone());
        let operation = call.operation.clone();
        let response = self.transport.send(call).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(Session {
                location: location(&response).unwrap_or_else(|| known.location.clone()),
                offset: received(response.headers()).unwrap_or(0),
                chunk_min: known.chunk_min,
            })),
            _ => Err(self.transport.refusal(&operation, response).await),
        }
    }

    /// Closes a session that has all bytes.
    pub(super) async fn close(
        &self,
        digest: &Digest,
        session: &Session,
    ) -> Result<(), ClientError> {
        let url = closing(session.location.clone(), digest);
        let call = self
            .session_call(digest, Method::PUT, url)
            .header(CONTENT_LENGTH, "0");
        let operation = call.operation.clone();
        let response = self.transport.send(call).await?;
        if response.status() == StatusCode::NOT_FOUND && self.blob_size(digest).await?.is_some() {
            // The answer to an earlier attempt was lost.
            return Ok(());
        }
        self.closed(&operation, response).await
    }

    async fn closed(&self, operation: &str, response: Response) -> Result<(), ClientError> {
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            _ => Err(self.transport.refusal(operation, response).await),
        }
    }

    fn session_call(&self, digest: &Digest, method: Method, url: Url) -> Call {
        let operation = format!("upload blob `{digest}` to `{}`", self.name);
        self.writing(&operation, method, url)
    }
}

fn session(operation: &str, response: &Response) -> Result<Session, ClientError> {
    let location = location(response).ok_or_else(|| ClientError::Protocol {
        operation: operation.to_owned(),
        reason: "it says no location for the upload".to_owned(),
    })?;
    let chunk_min = response.headers().get(OCI_CHUNK_MIN_LENGTH);
    let chunk_min = chunk_min.and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(Session {
        location,
        offset: 0,
        chunk_min: chunk_min.unwrap_or(0),
    })
}

/// `Location` may be relative to the URL that was asked.
fn location(response: &Response) -> Option<Url> {
    let text = response.headers().get(LOCATION)?.to_str().ok()?;
    response.url().join(text).ok()
}

/// `Range: 0-<last>`; registries that have nothing yet say `0-0` or nothing.
fn received(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?;
    let (_, last) = text.trim_start_matches("bytes=").split_once('-')?;
    match last.trim().parse::<u64>().ok()? {
        0 => Some(0),
        last => last.checked_add(1),
    }
}

fn closing(mut location: Url, digest: &Digest) -> Url {
    location
        .query_pairs_mut()
        .append_pair("digest", &digest.to_string());
    location
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_say_how_much_has_arrived() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, text.parse().unwrap());
            received(&headers)
        };
        assert_eq!(read("0-99"), Some(100));
        assert_eq!(read("bytes=0-99"), Some(100));
        assert_eq!(read("0-0"), Some(0));
        assert_eq!(read("x"), None);
    }

    #[test]
    fn the_digest_joins_what_the_location_carries() {
        let location = Url::parse("http://a/v2/x/blobs/uploads/1?_state=a%3D").unwrap();
        let digest = Digest::sha256(b"");
        let text = closing(location, &digest).to_string();
        let hex = digest.hex();
        assert_eq!(
            text,
            format!("http://a/v2/x/blobs/uploads/1?_state=a%3D&digest=sha256%3A{hex}")
        );
    }
}
