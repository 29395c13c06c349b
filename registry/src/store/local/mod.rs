//! A local directory as an object store: the library's file store, made durable, with
//! conditional updates and listings in order. Opened by [`crate::store::Store`]; everything
//! else sees an [`ObjectStore`] like any other.
//!
//! Guarantees, for every write unless it is [`Relaxed`]: readers see the old object or the new
//! one, never a part; on return the bytes, the directory entry and all directories on the way
//! are on stable storage. A file is written in a staging directory of the same file system,
//! synced, then moved in place.

mod durable;
mod files;
mod lock;
mod walk;

use std::{
    fmt, fs, io,
    path::{Path as FilePath, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
    local::LocalFileSystem, path::Path,
};

use durable::Directories;
use files::{LIST_BATCH, generic};
use lock::DirectoryLock;
use walk::{Walk, is_absent};

use super::error::StoreError;

/// In the extensions of a write: do not wait for the disk. After a loss of power the object
/// may be the old one, absent, or empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relaxed;

const STORE: &str = "LocalDirectory";
const STAGING: &str = ".staging";
/// Conditional writes of different keys wait for each other this rarely.
const STRIPES: usize = 64;
/// A directory that this process alone works in.
#[derive(Clone)]
pub(crate) struct LocalDirectory(Arc<Inner>);

pub(crate) struct Inner {
    root: PathBuf,
    /// Takes the operations that the registry never uses.
    library: LocalFileSystem,
    pub(in crate::store) directories: Directories,
    stripes: [Mutex<()>; STRIPES],
    hasher: std::hash::RandomState,
    staged: AtomicU64,
    last_time: AtomicU64,
    _lock: DirectoryLock,
}

impl LocalDirectory {
    /// Opens the directory, which must exist, and clears away what a crash left half written.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another process serves it, [`StoreError::Directory`] where
    /// it cannot be opened or written to.
    pub(crate) fn open(directory: &FilePath) -> Result<Self, StoreError> {
        let failed = |source: io::Error| StoreError::Directory {
            directory: directory.to_owned(),
            source,
        };
        let root = directory.canonicalize().map_err(failed)?;
        let lock = DirectoryLock::take(&root)?;
        let staging = root.join(STAGING);
        match fs::remove_dir_all(&staging) {
            Err(error) if !is_absent(&error) => return Err(failed(error)),
            _ => fs::create_dir(&staging).map_err(failed)?,
        }
        let library = LocalFileSystem::new_with_prefix(&root)?.with_fsync(true);
        Ok(Self(Arc::new(Inner {
            directories: Directories::new(root.clone()),
            root,
            library,
            stripes: std::array::from_fn(|_| Mutex::default()),
            hasher: std::hash::RandomState::new(),
            staged: AtomicU64::new(0),
            last_time: AtomicU64::new(0),
            _lock: lock,
        })))
    }

    pub(in crate::store) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }
}

/// Runs a whole operation where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

#[async_trait]
impl ObjectStore for LocalDirectory {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let (inner, location) = (self.0.clone(), location.clone());
        blocking(move || inner.put(&location, &payload, &opts)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.library.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (inner, location) = (self.0.clone(), location.clone());
        blocking(move || inner.get(&location, &options)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        const AT_ONCE: usize = 8;
        let inner = self.0.clone();
        locations
            .map(move |location| {
                let inner = inner.clone();
                async move {
                    let location = location?;
                    blocking(move || inner.delete(&location).map(|()| location)).await
                }
            })
            .buffered(AT_ONCE)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listing = self.0.library.list_with_delimiter(prefix).await?;
        let hidden = |path: &Path| path.as_ref().starts_with('.');
        listing.common_prefixes.retain(|path| !hidden(path));
        listing.objects.retain(|meta| !hidden(&meta.location));
        Ok(listing)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.library.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.library.rename_opts(from, to, options).await
    }
}

impl LocalDirectory {
    fn walk(
        &self,
        prefix: Option<&Path>,
        after: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let inner = self.0.clone();
        let prefix = prefix
            .map(|prefix| prefix.as_ref().to_owned())
            .unwrap_or_default();
        let after = after.map(|after| after.as_ref().to_owned());
        let start = {
            let inner = inner.clone();
            blocking(move || {
                Walk::new(inner.root.clone(), &prefix, after)
                    .map_err(|error| generic(&inner.root, error))
            })
        };
        let batches = move |walk: Walk| {
            futures::stream::try_unfold((inner.clone(), Some(walk)), |(inner, walk)| async move {
                let Some(mut walk) = walk else {
                    return Ok(None);
                };
                blocking(move || {
                    let batch = inner.batch(&mut walk)?;
                    let more = (batch.len() == LIST_BATCH).then_some(walk);
                    Ok(Some((futures::stream::iter(batch).map(Ok), (inner, more))))
                })
                .await
            })
            .try_flatten()
        };
        start.into_stream().map_ok(batches).try_flatten().boxed()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{STORE}({})", self.root.display())
    }
}

impl fmt::Debug for LocalDirectory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for LocalDirectory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}
