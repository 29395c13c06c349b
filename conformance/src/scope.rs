//! Where one check works: the registry, and repositories of its own.
//! Handed to every check, so that checks can run beside each other.

use http::Method;
use serde_json::Value;

use crate::check::{Stop, Verdict};
use crate::content::{self, Blob, Manifest};
use crate::http::{Registry, Request};
use crate::reply::Reply;
use crate::upload::Upload;

/// The registry and a repository that only one check uses.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) registry: Registry,
    repository: Repository,
}

impl Scope {
    /// A scope whose repositories are named `name` and `name-…`.
    pub(crate) fn new(registry: Registry, name: String) -> Self {
        Self {
            repository: Repository {
                registry: registry.clone(),
                name,
            },
            registry,
        }
    }

    /// The check's repository.
    pub(crate) fn repository(&self) -> Repository {
        self.repository.clone()
    }

    /// Another repository of the same check.
    pub(crate) fn other(&self, suffix: &str) -> Repository {
        self.named(&format!("{}-{suffix}", self.repository.name))
    }

    /// Any repository by its whole name.
    pub(crate) fn named(&self, name: &str) -> Repository {
        Repository {
            registry: self.registry.clone(),
            name: name.to_owned(),
        }
    }
}

/// A repository of the registry under test.
#[derive(Clone)]
pub(crate) struct Repository {
    registry: Registry,
    pub(crate) name: String,
}

impl Repository {
    /// A request to `/v2/<name>/<rest>`.
    pub(crate) fn request(&self, method: Method, rest: &str) -> Request {
        self.registry
            .request(method, &format!("/v2/{}/{rest}", self.name))
    }

    /// A request to an address that the registry named.
    pub(crate) fn follow(&self, method: Method, location: &str) -> Request {
        self.registry.request(method, location)
    }

    /// A request to a blob.
    pub(crate) fn blob(&self, method: Method, digest: &str) -> Request {
        self.request(method, &format!("blobs/{digest}"))
    }

    /// GET of a blob.
    pub(crate) fn get_blob(&self, digest: &str) -> Request {
        self.blob(Method::GET, digest)
    }

    /// HEAD of a blob.
    pub(crate) fn head_blob(&self, digest: &str) -> Request {
        self.blob(Method::HEAD, digest)
    }

    /// A request to a manifest by tag or digest.
    pub(crate) fn manifest(&self, method: Method, reference: &str) -> Request {
        self.request(method, &format!("manifests/{reference}"))
    }

    /// GET of a manifest with every type accepted.
    pub(crate) fn get_manifest(&self, reference: &str) -> Request {
        self.manifest(Method::GET, reference)
            .header("Accept", ACCEPT)
    }

    /// HEAD of a manifest with every type accepted.
    pub(crate) fn head_manifest(&self, reference: &str) -> Request {
        self.manifest(Method::HEAD, reference)
            .header("Accept", ACCEPT)
    }

    /// PUT of a manifest, not sent yet.
    pub(crate) fn put(&self, reference: &str, manifest: &Manifest) -> Request {
        self.manifest(Method::PUT, reference)
            .header("Content-Type", manifest.media_type.clone())
            .body(manifest.bytes.clone())
    }

    /// DELETE of a manifest or tag.
    pub(crate) fn delete_manifest(&self, reference: &str) -> Request {
        self.manifest(Method::DELETE, reference)
    }

    /// GET of the tags, with a query that may be empty.
    pub(crate) async fn tags(&self, query: &str) -> Verdict<Reply> {
        self.request(Method::GET, &format!("tags/list{query}"))
            .send()
            .await
    }

    /// GET of the referrers of a digest, with a query that may be empty.
    pub(crate) async fn referrers(&self, digest: &str, query: &str) -> Verdict<Reply> {
        self.request(Method::GET, &format!("referrers/{digest}{query}"))
            .send()
            .await
    }

    /// POST of the uploads, with a query that may be empty, not sent yet.
    pub(crate) fn post(&self, query: &str) -> Request {
        self.request(Method::POST, &format!("blobs/uploads/{query}"))
    }

    /// Begins an upload.
    pub(crate) async fn start(&self) -> Verdict<Upload> {
        self.start_with("").await
    }

    /// Begins an upload with a query.
    pub(crate) async fn start_with(&self, query: &str) -> Verdict<Upload> {
        let reply = self.post(query).send().await?;
        reply.status(&[202])?;
        Upload::begun(self.clone(), &reply)
    }

    /// Pushes a blob by POST and PUT as the preparation of a check.
    pub(crate) async fn push(&self, blob: &Blob) -> Verdict {
        self.try_push(blob)
            .await
            .map_err(|stop| stop.while_preparing("push of a blob"))
    }

    async fn try_push(&self, blob: &Blob) -> Verdict {
        let upload = self.start().await?;
        upload.close_with(blob, None).await?.status(&[201])?;
        Ok(())
    }

    /// Pushes a manifest as the preparation of a check.
    pub(crate) async fn push_manifest(
        &self,
        reference: &str,
        manifest: &Manifest,
    ) -> Verdict<Reply> {
        let prepared = async {
            let reply = self.put(reference, manifest).send().await?;
            reply.status(&[201])?;
            Ok(reply)
        };
        prepared
            .await
            .map_err(|stop: Stop| stop.while_preparing("push of a manifest"))
    }

    /// Pushes a config and one layer, and answers the image manifest over them, not pushed.
    pub(crate) async fn image(&self) -> Verdict<Value> {
        let (config, layer) = (content::config(), Blob::random(1024));
        self.push(&config).await?;
        self.push(&layer).await?;
        Ok(content::image(&config, &[layer]))
    }

    /// Pushes an image with its blobs under `tag`.
    pub(crate) async fn tagged(&self, tag: &str) -> Verdict<Manifest> {
        let manifest = Manifest::of(&self.image().await?);
        self.push_manifest(tag, &manifest).await?;
        Ok(manifest)
    }

    /// Tags one image with each of `tags`, in that order.
    pub(crate) async fn tagged_all(&self, tags: &[&str]) -> Verdict<Manifest> {
        let manifest = Manifest::of(&self.image().await?);
        for tag in tags {
            self.push_manifest(tag, &manifest).await?;
        }
        Ok(manifest)
    }
}

/// Every manifest type that clients ask for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, */*";
