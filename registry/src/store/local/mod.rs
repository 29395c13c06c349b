//! A local directory as an object store: durable, with conditional writes and listings in
//! order, fast for many small objects. Opened by [`crate::store::Store`]; everything else sees
//! an [`ObjectStore`] like any other.
//!
//! Guarantees, for every write unless it is [`Relaxed`]: readers see the old object or the new
//! one, never a part; what they see is durable. Writes of one caller are done in the order in
//! which their futures are first polled, and so are they after a crash.
//!
//! ```text
//! writer        changes, in rounds that share a sync
//!   journal     what makes a round durable
//!   recovery    what a start does with it
//!   files       the steps on files           lock   one process at a time
//! cache volatile index walk    reading: objects and names in memory, listings in order
//! durable       directories of large files, which are written without all that
//! ```

mod cache;
mod durable;
mod files;
mod index;
mod journal;
mod lock;
mod prune;
mod recovery;
#[cfg(test)]
mod tests;
mod volatile;
mod walk;
mod writer;

use std::{
    fmt, fs, io,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, local::LocalFileSystem, path::Path,
};

use durable::Directories;
use files::{LIST_BATCH, Tree, generic, get_entry};
use lock::DirectoryLock;
use walk::{Walk, is_absent};
use writer::{Operation, Writer};

use super::error::StoreError;

/// In the extensions of a write: it need not outlive the process. Where there was another
/// object of that key, that one may be there again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relaxed;

/// In the extensions of a read: look at the disk, whatever is in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fresh;

const STORE: &str = "LocalDirectory";
const STAGING: &str = ".staging";
const JOURNAL: &str = ".journal";

/// True for what large files are in, which come and go without the writer.
fn is_data(key: &str) -> bool {
    key.starts_with("data/")
}

/// A directory that this process alone works in.
#[derive(Clone)]
pub(crate) struct LocalDirectory(Arc<Inner>);

pub(crate) struct Inner {
    tree: Arc<Tree>,
    writer: Writer,
    /// Takes the operations that the registry never uses.
    library: LocalFileSystem,
    pub(in crate::store) directories: Directories,
    /// Released when the writer has ended.
    _lock: DirectoryLock,
}

impl Inner {
    /// Returns the file of a key.
    pub(in crate::store) fn file(&self, location: &Path) -> PathBuf {
        self.tree.file(location.as_ref())
    }

    /// Removes an object that nobody else writes to; that there is none is no error.
    pub(in crate::store) async fn forget(&self, location: &Path) -> Result<()> {
        if self.tree.volatile.remove(location) {
            self.tree.index.remove(location.as_ref());
            return Ok(());
        }
        let remove = Operation::Remove { expected: None };
        match self.writer.submit(location, remove).await {
            Err(error) if !matches!(error, Error::NotFound { .. }) => Err(error),
            _ => Ok(()),
        }
    }
}

impl LocalDirectory {
    /// Opens the directory, which must exist, does what a crash left undone, and clears away
    /// what it left half written.
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
        let tree = Arc::new(Tree::new(root.clone()));
        Ok(Self(Arc::new(Inner {
            writer: Writer::start(tree.clone()).map_err(failed)?,
            tree,
            library,
            directories: Directories::new(root),
            _lock: lock,
        })))
    }

    /// Returns whether the key is one of those that go without the writer.
    pub(in crate::store) fn is_data(location: &Path) -> bool {
        is_data(location.as_ref())
    }

    pub(in crate::store) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Returns the object with the tag of its state, or that there is none; nothing where
    /// memory does not tell.
    pub(in crate::store) fn remembered(&self, location: &Path) -> Option<Option<(Bytes, String)>> {
        let known = self.0.tree.remembered(location)?;
        Some(known.map(|entry| (entry.bytes, entry.stamp.tag)))
    }

    /// As [`LocalDirectory::remembered`], of the object's size.
    pub(in crate::store) fn remembered_size(&self, location: &Path) -> Option<Option<u64>> {
        let known = self.0.tree.remembered(location)?;
        Some(known.map(|entry| entry.stamp.size))
    }

    /// Reads those of the objects that are not in memory, in one go.
    pub(in crate::store) async fn warm(&self, locations: &[&Path]) {
        let tree = &self.0.tree;
        let unknown =
            |location: &&&Path| !tree.cache.knows(location) && tree.remembered(location).is_none();
        let unknown: Vec<Path> = (locations.iter().filter(unknown))
            .map(|location| (*location).clone())
            .collect();
        // One alone is read by whoever wants it.
        if unknown.len() < 2 {
            return;
        }
        let tree = tree.clone();
        let read = move || {
            for location in unknown {
                // What is not there, or cannot be read, is found out again.
                let _ = tree.get(&location, &GetOptions::default());
            }
            Ok(())
        };
        let _ = blocking(read).await;
    }

    /// Removes the object where it still is in that state; false where it is not. Durable.
    pub(in crate::store) async fn remove_if(&self, location: &Path, tag: &str) -> Result<bool> {
        let expected = Some(tag.to_owned());
        match (self.0.writer)
            .submit(location, Operation::Remove { expected })
            .await
        {
            Ok(_) => Ok(true),
            Err(Error::Precondition { .. } | Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the keys below `prefix`, in bytewise order, from behind `after` where given.
    /// Those of directories that were listed before come from memory.
    pub(in crate::store) fn keys(
        &self,
        prefix: &Path,
        after: Option<&Path>,
    ) -> BoxStream<'static, Result<Path>> {
        let tree = self.0.tree.clone();
        let walk = Walk::new(
            prefix.as_ref(),
            after.map(|after| after.as_ref().to_owned()),
        );
        futures::stream::try_unfold((tree, walk), |(tree, mut walk)| async move {
            let next = match walk.next_in_memory(&tree) {
                Ok(next) => next,
                Err(_) => {
                    let tree = tree.clone();
                    let (next, at) = blocking(move || {
                        let next = walk.next(&tree);
                        let next = next.map_err(|error| generic(&tree.root, error))?;
                        Ok((next, walk))
                    })
                    .await?;
                    walk = at;
                    next
                }
            };
            Ok(next.map(|key| (key, (tree, walk))))
        })
        // A file that somebody else put there may have a name that no key has.
        .try_filter_map(|key| async move { Ok(Path::parse(key).ok()) })
        .boxed()
    }

    /// Brings everything to stable storage at its own place, also what was written relaxed.
    pub(in crate::store) async fn settle(&self) -> Result<()> {
        let relaxed = self
            .0
            .tree
            .volatile
            .all()
            .into_iter()
            .map(|(location, entry)| {
                let operation = Operation::Put {
                    bytes: entry.bytes,
                    mode: PutMode::Overwrite,
                };
                self.0.writer.submit(&location, operation)
            });
        futures::future::try_join_all(relaxed.collect::<Vec<_>>()).await?;
        let settled = self.0.writer.submit(&Path::default(), Operation::Settle);
        settled.await.map(drop)
    }

    fn listing(
        &self,
        prefix: Option<&Path>,
        after: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.map_or("", AsRef::as_ref);
        let walk = Walk::new(prefix, after.map(|after| after.as_ref().to_owned()));
        let state = (self.0.tree.clone(), Some(walk));
        futures::stream::try_unfold(state, |(tree, walk)| async move {
            let Some(mut walk) = walk else {
                return Ok(None);
            };
            blocking(move || {
                let batch = tree.batch(&mut walk)?;
                let more = (batch.len() == LIST_BATCH).then_some(walk);
                Ok(Some((futures::stream::iter(batch).map(Ok), (tree, more))))
            })
            .await
        })
        .try_flatten()
        .boxed()
    }
}

/// Runs a whole operation where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// In one piece and memory of its own: parts may be slices of large buffers.
fn whole(payload: &PutPayload) -> Bytes {
    let mut bytes = Vec::with_capacity(payload.content_length());
    payload
        .iter()
        .for_each(|piece| bytes.extend_from_slice(piece));
    bytes.into()
}

#[async_trait]
impl ObjectStore for LocalDirectory {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let tree = &self.0.tree;
        let bytes = whole(&payload);
        let done = |tag| PutResult {
            e_tag: Some(tag),
            version: None,
            extensions: Default::default(),
        };
        let relaxed = opts.extensions.get::<Relaxed>().is_some();
        if relaxed && matches!(opts.mode, PutMode::Overwrite) && !tree.is_on_disk(location) {
            let entry = tree.volatile_entry(bytes.clone());
            let tag = entry.stamp.tag.clone();
            if tree.volatile.put(location, entry) {
                tree.index.add(location.as_ref());
                return Ok(done(tag));
            }
        }
        // Whatever is visible is durable.
        if matches!(opts.mode, PutMode::Create)
            && matches!(tree.remembered(location), Some(Some(_)))
        {
            return Err(Error::AlreadyExists {
                path: location.to_string(),
                source: io::Error::from(io::ErrorKind::AlreadyExists).into(),
            });
        }
        let mode = opts.mode;
        let stamp = (self.0.writer)
            .submit(location, Operation::Put { bytes, mode })
            .await?;
        Ok(done(stamp.unwrap_or_default().tag))
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented {
            operation: "put_multipart".to_owned(),
            implementer: STORE.to_owned(),
        })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let tree = &self.0.tree;
        let fresh = options.extensions.get::<Fresh>().is_some();
        if !fresh && !is_data(location.as_ref()) {
            match tree.remembered(location) {
                Some(Some(entry)) => return get_entry(location, entry, &options),
                Some(None) => {
                    let absent = io::Error::from(io::ErrorKind::NotFound);
                    return Err(generic(&tree.file(location.as_ref()), absent));
                }
                None => {}
            }
        }
        let (tree, location) = (tree.clone(), location.clone());
        blocking(move || match tree.get(&location, &options) {
            // One that is in memory alone.
            Err(Error::NotFound { path, source }) => match tree.volatile.get(&location) {
                Some(entry) => get_entry(&location, entry, &options),
                None => Err(Error::NotFound { path, source }),
            },
            found => found,
        })
        .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        const AT_ONCE: usize = 256;
        let inner = self.0.clone();
        locations
            .map(move |location| {
                let inner = inner.clone();
                async move {
                    let location = location?;
                    if is_data(location.as_ref()) {
                        let file = inner.file(&location);
                        let remove = move || {
                            fs::remove_file(&file).map_err(|error| generic(&file, error))?;
                            let directory = file.parent().unwrap_or(&file);
                            (inner.directories.sync(directory))
                                .map_err(|error| generic(&file, error))
                        };
                        return blocking(remove).await.map(|()| location);
                    }
                    let remove = Operation::Remove { expected: None };
                    inner.writer.submit(&location, remove).await?;
                    Ok(location)
                }
            })
            .buffered(AT_ONCE)
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

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listing = self.0.library.list_with_delimiter(prefix).await?;
        let hidden = |path: &Path| path.as_ref().starts_with('.');
        listing.common_prefixes.retain(|path| !hidden(path));
        listing.objects.retain(|meta| !hidden(&meta.location));
        Ok(listing)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let bytes = self.get(from).await?.bytes().await?;
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        self.put_opts(to, bytes.into(), mode.into()).await.map(drop)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{STORE}({})", self.tree.root.display())
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
