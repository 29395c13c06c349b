//! A local directory as an object store: the library's file store, made durable, with
//! conditional updates and listings in order. Opened by [`crate::store::Store`]; everything
//! else sees an [`ObjectStore`] like any other.
//!
//! Guarantees, for every write unless it is [`Relaxed`]: readers see the old object or the new
//! one, never a part; on return the bytes, the directory entry and all directories on the way
//! are on stable storage. A file is written in a staging directory of the same file system,
//! synced, then moved in place.

mod durable;
mod lock;
mod walk;

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    hash::{BuildHasher as _, Hasher as _},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path as FilePath, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result, UpdateVersion, local::LocalFileSystem, path::Path,
};
use rustix::fs::{CWD, RenameFlags};

use durable::Directories;
use lock::DirectoryLock;
use walk::{Walk, file_of, is_absent};

use super::error::StoreError;

/// In the extensions of a write: do not wait for the disk. After a loss of power the object
/// may be the old one, absent, or empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relaxed;

const STORE: &str = "LocalDirectory";
const STAGING: &str = ".staging";
const KIB: u64 = 1024;
/// Objects up to this size are read at once, larger ones are handed out as open files.
const READ_AT_ONCE_MAX: u64 = 256 * KIB;
/// Conditional writes of different keys wait for each other this rarely.
const STRIPES: usize = 64;
/// A listing fetches this many entries at a time.
const LIST_BATCH: usize = 256;

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

impl Inner {
    /// Returns the file of a key.
    pub(in crate::store) fn file(&self, location: &Path) -> PathBuf {
        file_of(&self.root, location.as_ref())
    }

    /// Serialises what decides on the present state of a key with what changes it.
    fn stripe(&self, location: &Path) -> MutexGuard<'_, ()> {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(location.as_ref().as_bytes());
        let index = usize::try_from(hasher.finish() % STRIPES as u64).expect("below 64");
        self.stripes[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time, later than any returned before.
    ///
    /// An object's tag is made from its file's modification time. The system's own is as
    /// coarse as its clock tick: of several writes within one, a reader could take a later
    /// one for the one that it knows, and a conditional write would be lost.
    fn unique_time(&self) -> SystemTime {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let advance = |last: u64| Some(now.max(last.saturating_add(1)));
        let last = self
            .last_time
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance)
            .unwrap_or_else(|last| last);
        UNIX_EPOCH + Duration::from_nanos(now.max(last.saturating_add(1)))
    }

    /// Writes a new object beside the tree and returns where.
    fn stage(&self, payload: &PutPayload, sync: bool) -> io::Result<(Staged, fs::Metadata)> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let staged = Staged(self.root.join(STAGING).join(number.to_string()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&staged.0)?;
        for piece in payload {
            file.write_all(piece)?;
        }
        file.set_times(std::fs::FileTimes::new().set_modified(self.unique_time()))?;
        if sync {
            file.sync_all()?;
        }
        let metadata = file.metadata()?;
        Ok((staged, metadata))
    }

    fn put(
        &self,
        location: &Path,
        payload: &PutPayload,
        options: &PutOptions,
    ) -> Result<PutResult> {
        let file = self.file(location);
        let fault = |error: io::Error| generic(&file, error);
        let directory = file.parent().ok_or_else(|| not_a_key(location))?;
        if matches!(options.mode, PutMode::Create) && file.exists() {
            return Err(self.already_exists(location, directory));
        }
        let sync = options.extensions.get::<Relaxed>().is_none();
        let (staged, metadata) = self.stage(payload, sync).map_err(fault)?;
        let place = || self.place(location, &staged, &file, &options.mode);
        self.directories.ensure(directory).map_err(fault)?;
        match place() {
            Err(Error::NotFound { .. }) => {
                // Somebody removed the directory under us.
                self.directories.forget(directory);
                self.directories.ensure(directory).map_err(fault)?;
                place()
            }
            done => done,
        }
        .map_err(|error| match error {
            Error::AlreadyExists { .. } => self.already_exists(location, directory),
            other => other,
        })?;
        staged.moved();
        if sync {
            self.directories.sync(directory).map_err(fault)?;
        }
        Ok(PutResult {
            e_tag: Some(tag(&metadata)),
            version: None,
            extensions: Default::default(),
        })
    }

    /// Moves a staged file to its place, under the condition of the mode.
    fn place(
        &self,
        location: &Path,
        staged: &Staged,
        file: &FilePath,
        mode: &PutMode,
    ) -> Result<()> {
        let fault = |error: io::Error| generic(file, error);
        let _guard = self.stripe(location);
        match mode {
            PutMode::Overwrite => {}
            PutMode::Update(UpdateVersion { e_tag, .. }) => {
                let current = match fs::metadata(file) {
                    Ok(metadata) => Some(tag(&metadata)),
                    Err(error) if is_absent(&error) => None,
                    Err(error) => return Err(fault(error)),
                };
                if current.is_none() || current != *e_tag {
                    return Err(Error::Precondition {
                        path: location.to_string(),
                        source: "the object was changed meanwhile".into(),
                    });
                }
            }
            PutMode::Create => return move_to_new(&staged.0, file).map_err(fault),
        }
        fs::rename(&staged.0, file).map_err(fault)
    }

    /// Says that the object exists, once that is durable: the caller will rely on it.
    fn already_exists(&self, location: &Path, directory: &FilePath) -> Error {
        match self.directories.sync(directory) {
            Ok(()) => Error::AlreadyExists {
                path: location.to_string(),
                source: io::Error::from(io::ErrorKind::AlreadyExists).into(),
            },
            Err(error) => generic(directory, error),
        }
    }

    fn get(&self, location: &Path, options: &GetOptions) -> Result<GetResult> {
        let path = self.file(location);
        let fault = |error: io::Error| generic(&path, error);
        let mut file = File::open(&path).map_err(fault)?;
        let metadata = file.metadata().map_err(fault)?;
        if !metadata.is_file() {
            return Err(fault(io::ErrorKind::NotFound.into()));
        }
        let meta = meta(location.clone(), &metadata).map_err(fault)?;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            None => 0..meta.size,
            Some(range) => range.as_range(meta.size).map_err(|error| Error::Generic {
                store: STORE,
                source: Box::new(error),
            })?,
        };
        let length = range.end - range.start;
        let payload = if options.head {
            GetResultPayload::Stream(futures::stream::empty().boxed())
        } else if length > READ_AT_ONCE_MAX {
            GetResultPayload::File(file, path)
        } else {
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
            file.seek(io::SeekFrom::Start(range.start)).map_err(fault)?;
            file.take(length).read_to_end(&mut bytes).map_err(fault)?;
            let bytes = Ok(Bytes::from(bytes));
            GetResultPayload::Stream(futures::stream::iter([bytes]).boxed())
        };
        Ok(GetResult {
            payload,
            meta,
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }

    fn delete(&self, location: &Path) -> Result<()> {
        let file = self.file(location);
        let fault = |error: io::Error| generic(&file, error);
        {
            let _guard = self.stripe(location);
            fs::remove_file(&file).map_err(fault)?;
        }
        let directory = file.parent().ok_or_else(|| not_a_key(location))?;
        self.directories.sync(directory).map_err(fault)
    }

    /// Returns the next entries of a walk with their metadata; fewer than asked at its end.
    fn batch(&self, walk: &mut Walk) -> Result<Vec<ObjectMeta>> {
        let mut batch = Vec::with_capacity(LIST_BATCH);
        for key in walk {
            let key = key.map_err(|error| generic(&self.root, error))?;
            let file = file_of(&self.root, &key);
            let metadata = match fs::metadata(&file) {
                Ok(metadata) => metadata,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(generic(&file, error)),
            };
            // A file that somebody else put there, under a name that no key has.
            let Ok(location) = Path::parse(&key) else {
                continue;
            };
            batch.push(meta(location, &metadata).map_err(|error| generic(&file, error))?);
            if batch.len() == LIST_BATCH {
                break;
            }
        }
        Ok(batch)
    }
}

/// A file in the staging directory; removed unless it was moved to its place.
struct Staged(PathBuf);

impl Staged {
    fn moved(self) {
        std::mem::forget(self);
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What stays behind is removed at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

/// Moves the file where there is none yet.
fn move_to_new(from: &FilePath, to: &FilePath) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can do that; every one with hard links can do it in two steps.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        done => Ok(done?),
    }
}

fn tag(metadata: &fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    format!(
        "{seconds:x}.{nanoseconds:x}-{:x}-{:x}",
        metadata.ino(),
        metadata.len()
    )
}

fn meta(location: Path, metadata: &fs::Metadata) -> io::Result<ObjectMeta> {
    Ok(ObjectMeta {
        location,
        last_modified: metadata.modified()?.into(),
        size: metadata.len(),
        e_tag: Some(tag(metadata)),
        version: None,
    })
}

/// Says in the library's terms what the system said about a file.
fn generic(file: &FilePath, error: io::Error) -> Error {
    let path = file.display().to_string();
    match error.kind() {
        _ if is_absent(&error) => Error::NotFound {
            path,
            source: error.into(),
        },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists {
            path,
            source: error.into(),
        },
        io::ErrorKind::PermissionDenied => Error::PermissionDenied {
            path,
            source: error.into(),
        },
        _ => Error::Generic {
            store: STORE,
            source: Box::new(FileError {
                path,
                source: error,
            }),
        },
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{path}`")]
struct FileError {
    path: String,
    source: io::Error,
}

fn not_a_key(location: &Path) -> Error {
    Error::NotSupported {
        source: format!("`{location}` is no key of an object").into(),
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
