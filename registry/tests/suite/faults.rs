//! An object store in memory that fails, or dies, at a chosen operation.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
    memory::InMemory,
    multipart::{MultipartStore, PartId},
    path::Path,
};

/// From the operation on at which it breaks, everything fails: what is stored then is what a
/// process would leave behind that dies there. Where `after` is set, the operation itself is
/// done, and only its answer is lost.
#[derive(Clone, Debug)]
pub(crate) struct Faulty(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: InMemory,
    /// How many operations may still be done.
    left: AtomicUsize,
    after: bool,
    kind: std::io::ErrorKind,
}

impl Faulty {
    /// Over the content of `store`, does `operations` and then fails.
    pub(crate) fn new(
        store: InMemory,
        operations: usize,
        after: bool,
        kind: std::io::ErrorKind,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            left: AtomicUsize::new(operations),
            after,
            kind,
        }))
    }

    /// Returns whether it has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.left.load(Ordering::SeqCst) == 0
    }

    fn error(&self) -> Error {
        Error::Generic {
            store: "Faulty",
            source: std::io::Error::from(self.0.kind).into(),
        }
    }

    async fn operation<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let take = |left: usize| left.checked_sub(1);
        let left = self
            .0
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        match left {
            Err(_) => Err(self.error()),
            Ok(1) if self.0.after => work.await.and(Err(self.error())),
            Ok(1) => Err(self.error()),
            Ok(_) => work.await,
        }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.operation(self.0.store.put_opts(location, payload, opts))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.operation(self.0.store.put_multipart_opts(location, opts))
            .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.operation(self.0.store.get_opts(location, options))
            .await
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
                    this.operation(this.0.store.delete(&location)).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let prefix = prefix.cloned();
        futures::stream::once(async move {
            this.operation(async { Ok(this.0.store.list(prefix.as_ref())) })
                .await
        })
        .flat_map(|listing| match listing {
            Ok(listing) => listing,
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        })
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.operation(self.0.store.list_with_delimiter(prefix))
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.operation(self.0.store.copy_opts(from, to, options))
            .await
    }
}

#[async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.operation(self.0.store.create_multipart(path)).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.operation(self.0.store.put_part(path, id, part_idx, data))
            .await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.operation(self.0.store.complete_multipart(path, id, parts))
            .await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.operation(self.0.store.abort_multipart(path, id)).await
    }
}
