//! An object store in memory with a hook around each operation: what the doubles of an object
//! store have in common. A double is a [`Hook`] that delays, refuses, counts or observes.

use std::{fmt, ops::Deref};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
    memory::InMemory,
    multipart::{MultipartStore, PartId},
    path::Path,
};

/// What kind of thing is asked of an object store. In a cloud, each is a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Put,
    /// A put where nothing is there yet.
    Create,
    /// A put on a version that is known.
    Update,
    Get,
    Head,
    Delete,
    List,
    /// The beginning of a multipart upload.
    Begin,
    Part,
    Complete,
    Abort,
}

/// One operation that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) kind: Kind,
    /// Of the object; of a list, what its keys begin with.
    pub(crate) key: &'a Path,
    /// How many bytes it writes.
    pub(crate) bytes: usize,
    /// The multipart upload that it belongs to.
    pub(crate) upload: Option<&'a MultipartId>,
}

/// What happens around the operations of an object store.
pub(crate) trait Hook: Clone + fmt::Debug + Send + Sync + 'static {
    /// Does the work of an operation, or not, and returns what the one who asked is told.
    fn around<T: Send>(
        &self,
        operation: Operation<'_>,
        work: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Returns what of an object is read by the one who asked for it.
    fn got(&self, found: GetResult) -> GetResult {
        found
    }

    /// Returns how an object appears in a list.
    fn listed(&self, meta: ObjectMeta) -> ObjectMeta {
        meta
    }

    /// Somebody was told of a multipart upload.
    fn began(&self, _upload: &MultipartId) {}
}

/// The store with its hook. Clones share both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hooked<H> {
    store: InMemory,
    hook: H,
}

impl<H> Hooked<H> {
    pub(crate) fn over(store: InMemory, hook: H) -> Self {
        Self { store, hook }
    }

    /// Returns what is in it, past the hook.
    pub(crate) fn content(&self) -> &InMemory {
        &self.store
    }

    /// Returns the keys of everything that is there.
    pub(crate) async fn keys(&self) -> Vec<String> {
        keys(&self.store).await
    }
}

impl<H> Deref for Hooked<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.hook
    }
}

impl<H: Hook> Hooked<H> {
    async fn operation<T: Send>(
        &self,
        kind: Kind,
        key: &Path,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let operation = Operation {
            kind,
            key,
            bytes: 0,
            upload: None,
        };
        self.hook.around(operation, work).await
    }

    /// Lists what is there when the hook lets it be asked for.
    fn listing(
        &self,
        prefix: Option<&Path>,
        offset: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let (prefix, offset) = (prefix.cloned(), offset.cloned());
        let listing = async move {
            let store = &this.store;
            let ask = async {
                Ok(match &offset {
                    Some(offset) => store.list_with_offset(prefix.as_ref(), offset),
                    None => store.list(prefix.as_ref()),
                })
            };
            let key = prefix.clone().unwrap_or_default();
            let listing = this.operation(Kind::List, &key, ask).await?;
            let hook = this.hook.clone();
            Ok::<_, Error>(listing.map_ok(move |meta| hook.listed(meta)))
        };
        futures::stream::once(listing).try_flatten().boxed()
    }
}

/// Says that the registry does not ask for this. If it began to, no hook would see it.
fn nobody_asks(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: "Hooked".to_owned(),
    }
}

/// Returns the keys of everything in a store.
pub(crate) async fn keys(store: &InMemory) -> Vec<String> {
    let listing = store.list(None);
    let keys = listing.map_ok(|meta| meta.location.to_string());
    keys.try_collect().await.unwrap()
}

impl<H> fmt::Display for Hooked<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hooked")
    }
}

#[async_trait]
impl<H: Hook> ObjectStore for Hooked<H> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let operation = Operation {
            kind: match opts.mode {
                PutMode::Overwrite => Kind::Put,
                PutMode::Create => Kind::Create,
                PutMode::Update(_) => Kind::Update,
            },
            key: location,
            bytes: payload.content_length(),
            upload: None,
        };
        let put = self.store.put_opts(location, payload, opts);
        self.hook.around(operation, put).await
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(nobody_asks("put_multipart"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let kind = match options.head {
            true => Kind::Head,
            false => Kind::Get,
        };
        let get = self.store.get_opts(location, options);
        let found = self.operation(kind, location, get).await?;
        Ok(match kind {
            Kind::Get => self.hook.got(found),
            _ => found,
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .and_then(move |location| {
                let this = this.clone();
                async move {
                    let delete = this.store.delete(&location);
                    this.operation(Kind::Delete, &location, delete).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(nobody_asks("list_with_delimiter"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(nobody_asks("copy"))
    }
}

#[async_trait]
impl<H: Hook> MultipartStore for Hooked<H> {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let begin = self.store.create_multipart(path);
        let id = self.operation(Kind::Begin, path, begin).await?;
        self.hook.began(&id);
        Ok(id)
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let operation = Operation {
            kind: Kind::Part,
            key: path,
            bytes: data.content_length(),
            upload: Some(id),
        };
        let put = self.store.put_part(path, id, part_idx, data);
        self.hook.around(operation, put).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let operation = Operation {
            kind: Kind::Complete,
            key: path,
            bytes: 0,
            upload: Some(id),
        };
        let complete = self.store.complete_multipart(path, id, parts);
        self.hook.around(operation, complete).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let operation = Operation {
            kind: Kind::Abort,
            key: path,
            bytes: 0,
            upload: Some(id),
        };
        let abort = self.store.abort_multipart(path, id);
        self.hook.around(operation, abort).await
    }
}
