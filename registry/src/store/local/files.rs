//! The operations on files that [`super::LocalDirectory`] is made of, and the order of their
//! steps. Blocking: called from blocking threads alone.

use std::{
    fs::{self, File, OpenOptions},
    hash::{BuildHasher as _, Hasher as _},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path as FilePath, PathBuf},
    sync::{MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::{
    Error, GetOptions, GetResult, GetResultPayload, ObjectMeta, PutMode, PutOptions, PutPayload,
    PutResult, Result, UpdateVersion, path::Path,
};
use rustix::fs::{CWD, RenameFlags};

use super::{
    Inner, Relaxed, STAGING, STORE, STRIPES,
    walk::{Walk, file_of, is_absent},
};

const KIB: u64 = 1024;
/// Objects up to this size are read at once, larger ones are handed out as open files.
const READ_AT_ONCE_MAX: u64 = 256 * KIB;
/// A listing fetches this many entries at a time.
pub(super) const LIST_BATCH: usize = 256;

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

    pub(super) fn put(
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

    pub(super) fn get(&self, location: &Path, options: &GetOptions) -> Result<GetResult> {
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

    pub(super) fn delete(&self, location: &Path) -> Result<()> {
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
    pub(super) fn batch(&self, walk: &mut Walk) -> Result<Vec<ObjectMeta>> {
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
pub(super) fn generic(file: &FilePath, error: io::Error) -> Error {
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
