//! A registry for one test, and the few words in which tests speak to it.

use bytes::Bytes;
use deploy_registry::{ServerSettings, Store, StoreError, serve, store::BodyError};
use deploy_spec::{Digest, RepositoryName, Tag};
use futures::{Stream, stream};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry that listens on a port of its own until dropped.
pub(crate) struct TestRegistry {
    pub(crate) url: String,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) client: Client,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl TestRegistry {
    pub(crate) async fn memory() -> Self {
        Self::start(Store::memory()).await
    }

    pub(crate) async fn start(store: Store) -> Self {
        Self::with(store, ServerSettings::default()).await
    }

    pub(crate) async fn with(store: Store, settings: ServerSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        Self {
            url: format!("http://{address}"),
            address,
            client: Client::builder().no_proxy().build().unwrap(),
            stop: Some(stop),
            server: tokio::spawn(serve(listener, store, settings, stopped)),
        }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn send(&self, method: &str, path: &str) -> Response {
        self.request(method, path).send().await.unwrap()
    }

    /// Pushes a blob in one request and returns its digest.
    pub(crate) async fn push(&self, name: &str, content: impl AsRef<[u8]>) -> Digest {
        let content = content.as_ref().to_vec();
        let digest = Digest::sha256(&content);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let response = self
            .request("POST", &path)
            .body(content)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        digest
    }

    /// Pushes a manifest and returns its digest.
    pub(crate) async fn push_manifest(
        &self,
        name: &str,
        reference: &str,
        manifest: &Value,
    ) -> Digest {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let digest = Digest::sha256(&bytes);
        let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
        let response = self
            .request("PUT", &format!("/v2/{name}/manifests/{reference}"))
            .header("content-type", media_type)
            .body(bytes)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        digest
    }

    /// Begins an upload and returns its location.
    pub(crate) async fn begin(&self, name: &str) -> String {
        let response = self
            .send("POST", &format!("/v2/{name}/blobs/uploads/"))
            .await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        header(&response, "location").to_owned()
    }

    /// Asks the server to stop, and returns what waits for it.
    pub(crate) fn stop(mut self) -> JoinHandle<()> {
        self.stop = None;
        self.server
    }
}

pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

/// Checks an error's status and code, and that its envelope is one.
pub(crate) async fn assert_error(response: Response, status: u16, code: &str) {
    let url = response.url().clone();
    assert_eq!(response.status().as_u16(), status, "{url}");
    assert_eq!(
        header(&response, "content-type"),
        "application/json",
        "{url}"
    );
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["errors"][0]["code"], code, "{url}: {body}");
    assert!(
        body["errors"][0]["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{url}"
    );
}

/// An image manifest of these blobs, whose sizes nobody checks.
pub(crate) fn image(config: &Digest, layers: &[&Digest]) -> Value {
    let layers: Vec<Value> = layers
        .iter()
        .map(|digest| json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 1 }))
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
        "layers": layers,
    })
}

pub(crate) fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// A body of these pieces.
pub(crate) fn body(
    pieces: &[&[u8]],
) -> impl Stream<Item = Result<Bytes, BodyError>> + Unpin + Send + use<> {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    stream::iter(pieces)
}

/// A body of these pieces that then breaks off.
pub(crate) fn broken_body(
    pieces: &[&[u8]],
) -> impl Stream<Item = Result<Bytes, BodyError>> + Unpin + Send + use<> {
    use futures::StreamExt as _;
    let broken = stream::iter([Err(BodyError::Broken("connection reset".to_owned()))]);
    body(pieces).chain(broken)
}

/// Reads a whole blob from the store.
pub(crate) async fn read(
    store: &Store,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Vec<u8>, StoreError> {
    use futures::TryStreamExt as _;
    let blob = store.blob(repository, digest).await?;
    let pieces: Vec<Bytes> = store
        .read_blob(&blob, 0..blob.size)
        .await?
        .try_collect()
        .await?;
    Ok(pieces.concat())
}

/// Content of this length that no two seeds share and nothing compresses.
pub(crate) fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; length];
    for word in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
    bytes
}
