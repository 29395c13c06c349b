//! An object store in memory that counts what is asked of it. In a cloud, each of these is a request.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
    memory::InMemory,
    multipart::{MultipartStore, PartId},
    path::Path,
};

/// Counts by kind of operation and first part of the key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counting {
    store: Arc<InMemory>,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
    bytes: Arc<Mutex<usize>>,
}

impl Counting {
    /// Returns what was counted since the last call, as `2 create blobs, 1 put data`.
    pub(crate) fn take(&self) -> String {
        let counts = std::mem::take(&mut *self.counts.lock().unwrap());
        let listed: Vec<String> = counts
            .into_iter()
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        listed.join(", ")
    }

    /// Returns how many bytes were written since the last call.
    pub(crate) fn take_bytes(&self) -> usize {
        std::mem::take(&mut *self.bytes.lock().unwrap())
    }

    /// Returns the keys of everything that is there.
    pub(crate) async fn keys(&self) -> Vec<String> {
        use futures::TryStreamExt as _;
        let listing = self.store.list(None);
        let listing = listing.map_ok(|meta| meta.location.to_string());
        listing.try_collect().await.unwrap()
    }

    fn count(&self, what: &str, key: &Path) {
        let mut parts = key.as_ref().split('/');
        let first = parts.next().unwrap_or_default();
        let within = parts.find(|part| part.starts_with('_'));
        let what = format!("{what} {}", within.unwrap_or(first));
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    fn count_bytes(&self, payload: &PutPayload) {
        *self.bytes.lock().unwrap() += payload.content_length();
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Counting")
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let what = match opts.mode {
            PutMode::Overwrite => "put",
            PutMode::Create => "create",
            PutMode::Update(_) => "update",
        };
        self.count(what, location);
        self.count_bytes(&payload);
        self.store.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.count(if options.head { "head" } else { "get" }, location);
        self.store.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    this.count("delete", &location);
                    this.store.delete(&location).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count("list", prefix.unwrap_or(&Path::default()));
        self.store.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count("list", prefix.unwrap_or(&Path::default()));
        self.store.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.count("copy", to);
        self.store.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Counting {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.count("begin", path);
        self.store.create_multipart(path).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.count("part", path);
        self.count_bytes(&data);
        self.store.put_part(path, id, part_idx, data).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.count("complete", path);
        self.store.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.count("abort", path);
        self.store.abort_multipart(path, id).await
    }
}
