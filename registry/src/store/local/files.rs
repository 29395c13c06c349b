//! The files of a directory: reading them, and the steps in which [`super::writer`] changes
//! them. Blocking, except for what is in memory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    ops::Range,
    os::unix::fs::MetadataExt as _,
    path::{Path as FilePath, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::{
    Error, GetOptions, GetResult, GetResultPayload, ObjectMeta, Result, path::Path,
};

use super::{
    STAGING, STORE,
    cache::{CACHED_MAX, Cache, Entry},
    index::Index,
    volatile::Volatile,
    walk::{Walk, is_absent},
};

const KIB: u64 = 1024;
/// Objects up to this size are read at once, larger ones are handed out as open files.
const READ_AT_ONCE_MAX: u64 = 256 * KIB;
/// A listing with metadata fetches this many entries at a time.
pub(super) const LIST_BATCH: usize = 256;

/// The tree of files, and what is in memory of it.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) cache: Cache,
    pub(super) volatile: Volatile,
    pub(super) index: Index,
    staged: AtomicU64,
    last_time: AtomicU64,
}

/// Which state of an object this is.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    pub(super) modified: SystemTime,
    pub(super) size: u64,
    /// Differs from that of every other state of the object.
    pub(super) tag: String,
}

impl Default for Stamp {
    fn default() -> Self {
        Self {
            modified: UNIX_EPOCH,
            size: 0,
            tag: String::new(),
        }
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> io::Result<Self> {
        let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
        let (file, size) = (metadata.ino(), metadata.len());
        Ok(Self {
            modified: metadata.modified()?,
            size,
            tag: format!("{seconds:x}.{nanoseconds:x}-{file:x}-{size:x}"),
        })
    }

    /// Returns the object's description in the library's words.
    pub(super) fn meta(self, location: Path) -> ObjectMeta {
        ObjectMeta {
            location,
            last_modified: self.modified.into(),
            size: self.size,
            e_tag: Some(self.tag),
            version: None,
        }
    }
}

impl Tree {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            cache: Cache::default(),
            volatile: Volatile::default(),
            index: Index::default(),
            staged: AtomicU64::new(0),
            last_time: AtomicU64::new(0),
        }
    }

    /// Returns the file of a key.
    pub(super) fn file(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Returns the time, later than any returned before.
    ///
    /// An object's tag is made from its file's modification time. The system's own is as
    /// coarse as its clock tick: of several writes within one, a reader could take a later
    /// one for the one that it knows, and a conditional write would be lost.
    pub(super) fn unique_time(&self) -> SystemTime {
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

    /// Returns an object that is only to be kept in memory.
    pub(super) fn volatile_entry(&self, bytes: Bytes) -> Entry {
        let modified = self.unique_time();
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Entry {
            stamp: Stamp {
                modified,
                size: bytes.len() as u64,
                tag: format!("{:x}", since.as_nanos()),
            },
            bytes,
        }
    }

    /// Returns the object, or that there is none; nothing where memory does not tell.
    pub(super) fn remembered(&self, location: &Path) -> Option<Option<Entry>> {
        if let Some(entry) = self.volatile.get(location) {
            return Some(Some(entry));
        }
        let cached = self.cache.get(location);
        cached.or_else(|| self.index.lacks(location.as_ref()).then_some(None))
    }

    /// Returns whether the disk may hold such an object. Looks there where nothing else tells,
    /// which takes microseconds.
    pub(super) fn is_on_disk(&self, location: &Path) -> bool {
        !matches!(self.stamp_on_disk(location), Ok(None))
    }

    /// Returns the state of the object, or nothing where there is none.
    pub(super) fn stamp(&self, location: &Path) -> io::Result<Option<Stamp>> {
        if let Some(entry) = self.volatile.get(location) {
            return Ok(Some(entry.stamp));
        }
        self.stamp_on_disk(location)
    }

    /// As [`Tree::stamp`], without those that are in memory alone.
    pub(super) fn stamp_on_disk(&self, location: &Path) -> io::Result<Option<Stamp>> {
        if let Some(known) = self.cache.get(location) {
            return Ok(known.map(|entry| entry.stamp));
        }
        match fs::metadata(self.file(location.as_ref())) {
            Ok(metadata) if metadata.is_file() => Stamp::of(&metadata).map(Some),
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns whether the file of the key has these bytes and this time.
    pub(super) fn holds(&self, key: &str, modified: SystemTime, bytes: &[u8]) -> io::Result<bool> {
        let read = || {
            let mut file = File::open(self.file(key))?;
            let metadata = file.metadata()?;
            let is_like_it = metadata.is_file()
                && metadata.len() == bytes.len() as u64
                && metadata.modified()? == modified;
            if !is_like_it {
                return Ok(false);
            }
            let mut found = Vec::with_capacity(bytes.len());
            file.read_to_end(&mut found)?;
            Ok(found == bytes)
        };
        match read() {
            Err(error) if is_absent(&error) => Ok(false),
            read => read,
        }
    }

    /// Writes a file beside the tree.
    pub(super) fn stage(&self, modified: SystemTime, bytes: &[u8]) -> io::Result<Staged> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(STAGING).join(number.to_string());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        let mut staged = Staged {
            path: Some(path),
            stamp: Stamp::default(),
        };
        file.write_all(bytes)?;
        file.set_times(fs::FileTimes::new().set_modified(modified))?;
        staged.stamp = Stamp::of(&file.metadata()?)?;
        Ok(staged)
    }

    /// Moves a staged file to its place, over what is there.
    pub(super) fn move_in(&self, mut staged: Staged, key: &str) -> io::Result<Stamp> {
        if let Some(from) = staged.path.take() {
            let to = self.file(key);
            with_directory(&to, || fs::rename(&from, &to))
                .inspect_err(|_| staged.path = Some(from.clone()))?;
        }
        Ok(std::mem::take(&mut staged.stamp))
    }

    /// Creates an empty file at its place, where there is none.
    pub(super) fn create_empty(&self, key: &str, modified: SystemTime) -> io::Result<Stamp> {
        let path = self.file(key);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let file = with_directory(&path, || options.open(&path))?;
        file.set_times(fs::FileTimes::new().set_modified(modified))?;
        Stamp::of(&file.metadata()?)
    }

    /// Removes the file; that there is none is no error.
    pub(super) fn remove(&self, key: &str) -> io::Result<()> {
        match fs::remove_file(self.file(key)) {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads the object from the disk, and remembers it where it is small.
    pub(super) fn get(&self, location: &Path, options: &GetOptions) -> Result<GetResult> {
        let path = self.file(location.as_ref());
        let fault = |error: io::Error| generic(&path, error);
        let reading = self.cache.reading(location);
        let mut file = File::open(&path).map_err(|error| {
            if is_absent(&error) && !super::is_data(location.as_ref()) {
                self.cache.fill(location, reading, None);
            }
            fault(error)
        })?;
        let metadata = file.metadata().map_err(fault)?;
        if !metadata.is_file() {
            return Err(fault(io::ErrorKind::NotFound.into()));
        }
        let stamp = Stamp::of(&metadata).map_err(fault)?;
        // What large files hold is immutable, but they go without the cache being told.
        if stamp.size <= CACHED_MAX as u64 && !super::is_data(location.as_ref()) {
            let mut bytes = Vec::with_capacity(usize::try_from(stamp.size).unwrap_or_default());
            file.read_to_end(&mut bytes).map_err(fault)?;
            let bytes = Bytes::from(bytes);
            let entry = Entry { bytes, stamp };
            self.cache.fill(location, reading, Some(entry.clone()));
            return get_entry(location, entry, options);
        }
        let meta = stamp.meta(location.clone());
        options.check_preconditions(&meta)?;
        let range = range_of(options, meta.size)?;
        let length = range.end - range.start;
        let payload = if options.head {
            GetResultPayload::Stream(futures::stream::empty().boxed())
        } else if length > READ_AT_ONCE_MAX {
            GetResultPayload::File(file, path)
        } else {
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
            file.seek(io::SeekFrom::Start(range.start)).map_err(fault)?;
            file.take(length).read_to_end(&mut bytes).map_err(fault)?;
            once(bytes.into())
        };
        Ok(GetResult {
            payload,
            meta,
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }

    /// Returns the next entries of a walk with their metadata; fewer than asked at its end.
    pub(super) fn batch(&self, walk: &mut Walk) -> Result<Vec<ObjectMeta>> {
        let mut batch = Vec::with_capacity(LIST_BATCH);
        while batch.len() < LIST_BATCH {
            let key = walk
                .next(self)
                .map_err(|error| generic(&self.root, error))?;
            let Some(key) = key else {
                break;
            };
            // A file that somebody else put there may have a name that no key has.
            let Ok(location) = Path::parse(&key) else {
                continue;
            };
            let stamp = self.stamp(&location);
            let stamp = stamp.map_err(|error| generic(&self.file(&key), error))?;
            batch.extend(stamp.map(|stamp| stamp.meta(location)));
        }
        Ok(batch)
    }
}

/// Answers a read from memory.
pub(super) fn get_entry(location: &Path, entry: Entry, options: &GetOptions) -> Result<GetResult> {
    let meta = entry.stamp.meta(location.clone());
    options.check_preconditions(&meta)?;
    let range = range_of(options, meta.size)?;
    let index = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    let payload = match options.head {
        true => GetResultPayload::Stream(futures::stream::empty().boxed()),
        // Shorter than its metadata said where somebody else writes to the file.
        false => once((entry.bytes).slice(
            index(range.start).min(entry.bytes.len())..index(range.end).min(entry.bytes.len()),
        )),
    };
    Ok(GetResult {
        payload,
        meta,
        range,
        attributes: Default::default(),
        extensions: Default::default(),
    })
}

fn once(bytes: Bytes) -> GetResultPayload {
    GetResultPayload::Stream(futures::stream::iter([Ok(bytes)]).boxed())
}

fn range_of(options: &GetOptions, size: u64) -> Result<Range<u64>> {
    match &options.range {
        None => Ok(0..size),
        Some(range) => range.as_range(size).map_err(|error| Error::Generic {
            store: STORE,
            source: Box::new(error),
        }),
    }
}

/// A file in the staging directory; removed unless it was moved to its place.
#[derive(Debug)]
pub(super) struct Staged {
    path: Option<PathBuf>,
    stamp: Stamp,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What stays behind is removed at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// Does something that needs the file's directory, and creates that where it is missing.
fn with_directory<T>(file: &FilePath, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
    /// Somebody may tidy empty directories away at the same time.
    const TRIES: usize = 5;
    let mut done = work();
    for _ in 0..TRIES {
        match &done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => break,
        }
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        done = work();
    }
    done
}

/// Says in the library's terms what the system said about a file.
pub(super) fn generic(file: &FilePath, error: io::Error) -> Error {
    let path = file.display().to_string();
    match error.kind() {
        _ if is_absent(&error) => Error::NotFound {
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
