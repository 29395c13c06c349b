//! What the store asks of an object store, in the store's own words: whole small objects,
//! conditional writes, listings in order. Called by the rest of `store`, which thereby never
//! meets the backend's options or errors.

use std::{fmt, fs::File, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use object_store::{
    Error, GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt as _, PutMode,
    PutOptions, PutPayload, UpdateVersion, path::Path,
};

use super::{
    data,
    error::StoreError,
    local::{Fresh, LocalDirectory, Relaxed},
    resume::resumed,
};

/// An object store, shared.
#[derive(Clone)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// The same, by a client that sends each request once.
    once: Arc<dyn ObjectStore>,
    /// The same, where it is a local directory: that can do some things better than the
    /// library's trait can say.
    local: Option<LocalDirectory>,
}

/// An object of a listing.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Path,
    pub(crate) size: u64,
    /// When it was written, by the store's clock.
    pub(crate) modified: Timestamp,
}

/// A small object as it was read.
#[derive(Debug)]
pub(crate) struct Object {
    /// All of it.
    pub(crate) bytes: Bytes,
    /// Which state of it this is, for [`Objects::update`].
    pub(crate) version: Version,
}

/// A state of an object.
#[derive(Clone, Debug)]
pub(crate) struct Version(UpdateVersion);

impl fmt::Debug for Objects {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.store, formatter)
    }
}

/// The bytes of a large object, or of a part of it.
pub enum Content {
    /// All of them.
    Bytes(Bytes),
    /// This range of a file.
    File(File, Range<u64>),
    /// As they come from elsewhere.
    Stream(BoxStream<'static, Result<Bytes, StoreError>>),
}

impl Content {
    /// Returns them as a stream, whatever they are.
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes, StoreError>> {
        match self {
            Self::Bytes(bytes) => futures::stream::iter([Ok(bytes)]).boxed(),
            Self::File(file, range) => data::read_file(file, range).boxed(),
            Self::Stream(stream) => stream,
        }
    }
}

/// What a conditional creation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// Nothing: the object is ours.
    New,
    /// An object of that key, which stays.
    Existed,
}

impl Objects {
    /// Over a store; `once` is the same by a client that tries nothing again.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, once: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            once,
            local: None,
        }
    }

    /// Over a local directory, which `store` is or leads to.
    pub(crate) fn local(store: Arc<dyn ObjectStore>, directory: LocalDirectory) -> Self {
        Self {
            once: store.clone(),
            store,
            local: Some(directory),
        }
    }

    /// Says that these objects are about to be read, so that it can be done in one go where
    /// that is better.
    pub(crate) async fn warm(&self, keys: &[&Path]) {
        if let Some(local) = &self.local {
            local.warm(keys).await;
        }
    }

    /// Brings everything to stable storage at its own place, where it is durable elsewhere.
    pub(crate) async fn settle(&self) -> Result<(), StoreError> {
        match &self.local {
            Some(local) => Ok(local.settle().await?),
            None => Ok(()),
        }
    }

    /// Returns whether every change passes through this process: then [`Objects::remove_if`]
    /// works.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.local.is_some()
    }

    /// Returns the object, or nothing where there is none.
    pub(crate) async fn read(&self, key: &Path) -> Result<Option<Object>, StoreError> {
        if let Some(known) = self.local.as_ref().and_then(|local| local.remembered(key)) {
            return Ok(known.map(|(bytes, tag)| {
                let version = Version(UpdateVersion {
                    e_tag: Some(tag),
                    version: None,
                });
                Object { bytes, version }
            }));
        }
        self.read_with(key, GetOptions::default()).await
    }

    /// As [`Objects::read`], but returns what is stored, not what is remembered of it.
    pub(crate) async fn read_fresh(&self, key: &Path) -> Result<Option<Object>, StoreError> {
        let mut options = GetOptions::default();
        options.extensions.insert(Fresh);
        self.read_with(key, options).await
    }

    async fn read_with(
        &self,
        key: &Path,
        options: GetOptions,
    ) -> Result<Option<Object>, StoreError> {
        let found = match self.store.get_opts(key, options).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        let version = Version(UpdateVersion {
            e_tag: found.meta.e_tag.clone(),
            version: found.meta.version.clone(),
        });
        let bytes = found.bytes().await?;
        Ok(Some(Object { bytes, version }))
    }

    /// Removes empty directories below `prefix`, where the store has such, and returns how many.
    pub(crate) async fn remove_empty_directories(&self, prefix: &Path) -> Result<u64, StoreError> {
        match &self.local {
            Some(local) => local.remove_empty(prefix).await,
            None => Ok(0),
        }
    }

    /// Returns the size of the object, or nothing where there is none.
    pub(crate) async fn size(&self, key: &Path) -> Result<Option<u64>, StoreError> {
        if let Some(known) = (self.local.as_ref()).and_then(|local| local.remembered_size(key)) {
            return Ok(known);
        }
        match self.store.head(key).await {
            Err(Error::NotFound { .. }) => Ok(None),
            found => Ok(Some(found?.size)),
        }
    }

    /// Returns the bytes of a range of a large object, or nothing where there is none. Where
    /// reading breaks off it goes on, so the object must be one that never changes.
    pub(crate) async fn content(
        &self,
        key: &Path,
        range: Range<u64>,
    ) -> Result<Option<Content>, StoreError> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let found = match self.store.get_opts(key, options).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        let range = found.range.clone();
        Ok(Some(match found.payload {
            GetResultPayload::File(file, _) => Content::File(file, range),
            GetResultPayload::Stream(stream) => {
                Content::Stream(resumed(self.store.clone(), key.clone(), range, stream))
            }
        }))
    }

    /// Writes the object where there is none of that key yet; atomic and durable.
    pub(crate) async fn create(
        &self,
        key: &Path,
        payload: PutPayload,
    ) -> Result<Created, StoreError> {
        match self
            .store
            .put_opts(key, payload, PutMode::Create.into())
            .await
        {
            Err(Error::AlreadyExists { .. }) => Ok(Created::Existed),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Created::New),
        }
    }

    /// Writes the object as [`Objects::create`] does, and takes one that holds the same bytes
    /// for ours: a write whose answer was lost is tried again below us, and finds itself there.
    /// For payloads that hold a time or a random name.
    pub(crate) async fn create_own(
        &self,
        key: &Path,
        payload: PutPayload,
    ) -> Result<Created, StoreError> {
        match self.create(key, payload.clone()).await? {
            Created::Existed if self.find_own(key, &payload).await?.is_some() => Ok(Created::New),
            created => Ok(created),
        }
    }

    /// Writes the object, whatever was there; atomic and durable.
    pub(crate) async fn replace(&self, key: &Path, payload: PutPayload) -> Result<(), StoreError> {
        self.store.put(key, payload).await?;
        Ok(())
    }

    /// Writes the object as [`Objects::replace`] does, except that it may be gone or empty
    /// after a loss of power. For what costs nothing to lose.
    pub(crate) async fn replace_relaxed(
        &self,
        key: &Path,
        payload: PutPayload,
    ) -> Result<(), StoreError> {
        let mut options = PutOptions::default();
        options.extensions.insert(Relaxed);
        self.store.put_opts(key, payload, options).await?;
        Ok(())
    }

    /// Writes the object where it still is in that state; false where it is not. Atomic and
    /// durable.
    pub(crate) async fn update(
        &self,
        key: &Path,
        payload: PutPayload,
        version: Version,
    ) -> Result<bool, StoreError> {
        let advanced = self.advance(key, payload, version).await?;
        Ok(advanced.is_some())
    }

    /// Writes the object as [`Objects::update`] does, and returns which state it is in then.
    ///
    /// A write whose answer was lost is tried again below us, and then finds itself in its way.
    /// So what stands there is compared before it is somebody else's: payloads hold a time or a
    /// random name, and no two writers write the same.
    pub(crate) async fn advance(
        &self,
        key: &Path,
        payload: PutPayload,
        version: Version,
    ) -> Result<Option<Version>, StoreError> {
        let mode = PutMode::Update(version.0);
        match self.store.put_opts(key, payload.clone(), mode.into()).await {
            Err(
                Error::Precondition { .. } | Error::NotFound { .. } | Error::AlreadyExists { .. },
            ) => self.find_own(key, &payload).await,
            Err(error) => Err(error.into()),
            Ok(put) => Ok(Some(Version(UpdateVersion {
                e_tag: put.e_tag,
                version: put.version,
            }))),
        }
    }

    /// Returns which state the object is in, where it holds these bytes.
    async fn find_own(
        &self,
        key: &Path,
        payload: &PutPayload,
    ) -> Result<Option<Version>, StoreError> {
        let found = self.read(key).await?;
        let ours = found.filter(|found| is_same(payload, &found.bytes));
        Ok(ours.map(|found| found.version))
    }

    /// Removes the object, durably; that it is gone already is no error.
    ///
    /// The store may be asked several times. Where others write the object as soon as they see
    /// that it is gone, [`Objects::remove_once`] it.
    pub(crate) async fn remove(&self, key: &Path) -> Result<(), StoreError> {
        removed(self.store.delete(key).await)
    }

    /// Removes the object as [`Objects::remove`] does, but asks the store once: a second
    /// request, sent because the first one's answer was lost, would remove what somebody wrote
    /// in between.
    ///
    /// # Errors
    /// Where it is unknown whether the object is gone, or will go.
    pub(crate) async fn remove_once(&self, key: &Path) -> Result<(), StoreError> {
        removed(self.once.delete(key).await)
    }

    /// Removes the object where it still is in that state; false where it is not. Atomic and
    /// durable.
    ///
    /// # Errors
    /// On stores that delete unconditionally alone; see [`Objects::is_exclusive`].
    pub(crate) async fn remove_if(
        &self,
        key: &Path,
        version: &Version,
    ) -> Result<bool, StoreError> {
        match &self.local {
            Some(local) => {
                let tag = version.0.e_tag.as_deref().unwrap_or_default();
                Ok(local.remove_if(key, tag).await?)
            }
            None => Err(StoreError::Backend(Error::NotImplemented {
                operation: "conditional delete".to_owned(),
                implementer: self.store.to_string(),
            })),
        }
    }

    /// Returns the keys below `prefix` as [`Objects::list`] does, without those of objects that
    /// are no larger than `size`. Where nothing is ever doomed, sizes are not looked at.
    pub(crate) fn list_larger(
        &self,
        prefix: &Path,
        after: Option<&Path>,
        size: u64,
    ) -> BoxStream<'static, Result<Path, StoreError>> {
        if self.is_exclusive() {
            return self.list(prefix, after);
        }
        let listing = match after {
            None => self.store.list(Some(prefix)),
            Some(after) => self.store.list_with_offset(Some(prefix), after),
        };
        listing
            .map_err(StoreError::from)
            .try_filter_map(
                move |meta| async move { Ok((meta.size > size).then_some(meta.location)) },
            )
            .boxed()
    }

    /// Returns the objects below `prefix`, in bytewise order of their keys.
    pub(crate) fn entries(&self, prefix: &Path) -> BoxStream<'static, Result<Entry, StoreError>> {
        self.entries_from(prefix, None)
    }

    /// Returns the objects below `prefix`, in bytewise order of their keys, from behind `after`
    /// where given.
    pub(crate) fn entries_from(
        &self,
        prefix: &Path,
        after: Option<&Path>,
    ) -> BoxStream<'static, Result<Entry, StoreError>> {
        let listing = match after {
            None => self.store.list(Some(prefix)),
            Some(after) => self.store.list_with_offset(Some(prefix), after),
        };
        listing
            .map_err(StoreError::from)
            .map_ok(|meta| {
                let modified = meta.last_modified;
                let nanoseconds = i32::try_from(modified.timestamp_subsec_nanos()).unwrap_or(0);
                Entry {
                    size: meta.size,
                    // What is outside the range of times was not written by us.
                    modified: Timestamp::new(modified.timestamp(), nanoseconds)
                        .unwrap_or(Timestamp::MAX),
                    key: meta.location,
                }
            })
            .boxed()
    }

    /// Returns the keys below `prefix`, in bytewise order, from behind `after` where given.
    /// A store that does not know offsets is listed from its beginning.
    pub(crate) fn list(
        &self,
        prefix: &Path,
        after: Option<&Path>,
    ) -> BoxStream<'static, Result<Path, StoreError>> {
        if let Some(local) = &self.local {
            return local.keys(prefix, after).map_err(StoreError::from).boxed();
        }
        let listing = match after {
            None => self.store.list(Some(prefix)),
            Some(after) => self.store.list_with_offset(Some(prefix), after),
        };
        let after = after.cloned();
        listing
            .map_ok(|meta| meta.location)
            .map_err(StoreError::from)
            .try_filter(move |key| {
                let behind = after.as_ref().is_none_or(|after| key > after);
                std::future::ready(behind)
            })
            .boxed()
    }
}

fn removed(done: object_store::Result<()>) -> Result<(), StoreError> {
    match done {
        Err(Error::NotFound { .. }) => Ok(()),
        done => Ok(done?),
    }
}

fn is_same(payload: &PutPayload, bytes: &Bytes) -> bool {
    let mut rest = &bytes[..];
    for piece in payload {
        match rest.strip_prefix(&piece[..]) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.is_empty()
}
