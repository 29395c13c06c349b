//! Where the bytes of large blobs go while they stream: one small trait, one implementer for a
//! local directory and one for stores with multipart uploads. Used by `ingest` to write and by
//! `objects` to read.

mod blocks;
mod buffers;
mod local;
mod multipart;

use std::{fmt, fs::File, ops::Range, os::unix::fs::FileExt as _, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use deploy_spec::Hasher;
use futures::Stream;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

pub(crate) use buffers::{BUFFER, Buffer, Pool};
pub(crate) use local::LocalData;
pub(crate) use multipart::MultipartData;

use super::{error::StoreError, keys::DataId};

const KIB: usize = 1024;
/// Large files are read in pieces of this size: hyper has no `sendfile`, so every piece costs
/// a system call and a switch of threads.
const READ_PIECE: usize = 256 * KIB;

/// How far the bytes of an unfinished blob have got; part of an upload's session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// How many bytes are written.
    pub(crate) length: u64,
    /// The multipart upload that holds the first of them, on stores that have such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) multipart: Option<Parts>,
    /// Where the bytes behind the parts are, in order: too few for one more part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parked: Vec<Parked>,
}

impl Progress {
    /// Returns whether bytes stand under the data's own name. Otherwise nothing binds the blob
    /// to it: whoever goes on may choose another.
    pub(crate) fn is_bound(&self) -> bool {
        self.multipart.is_some() || self.length > self.parked_length()
    }

    fn parked_length(&self) -> u64 {
        self.parked.iter().map(|piece| piece.length).sum()
    }
}

/// A piece of an unfinished blob that waits in an object of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parked {
    /// The object.
    pub(crate) data: DataId,
    /// Its size in bytes.
    pub(crate) length: u64,
}

/// A multipart upload and its parts so far, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    id: String,
    parts: Vec<String>,
}

/// What sizes of pieces a place for data wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pieces {
    /// While streaming, hand over pieces of at least this size.
    pub(crate) wanted: usize,
    /// What is less at the end of a request stays in the session's object.
    pub(crate) minimum: usize,
}

/// A place for the data of blobs.
#[async_trait]
pub(crate) trait BlobData: Send + Sync + fmt::Debug {
    /// Returns the sizes of pieces to hand to [`Sink::append`] now; another time it may want
    /// others.
    fn pieces(&self) -> Pieces;

    /// Returns where memory for them comes from.
    fn pool(&self) -> &Pool;

    /// Returns what writes behind the first `progress.length` bytes of `key`. Writes nothing
    /// yet; bytes behind that length, of an attempt that failed, are overwritten.
    fn sink(&self, key: Path, progress: Progress) -> Box<dyn Sink>;

    /// Removes what was written to an unfinished blob that nobody goes on with.
    async fn discard(&self, key: &Path, progress: &Progress) -> Result<(), StoreError>;

    /// Gives back what was written to an unfinished blob and is no object yet.
    async fn release(&self, _key: &Path, _progress: &Progress) -> Result<(), StoreError> {
        Ok(())
    }

    /// Removes an object without waiting for the disk: were it to come back after a loss of
    /// power, it would harm nobody.
    async fn forget(&self, key: &Path) -> Result<(), StoreError>;
}

/// Where data came to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// Where the sink was told to write.
    Here,
    /// In an object that was whole already.
    At(DataId),
    /// Where the sink was told to write, but somebody else completed it, or we did and the
    /// answer was lost. It has the right size; its bytes are still to be looked at.
    Found,
}

/// Writes one blob's data, in order.
#[async_trait]
pub(crate) trait Sink: Send {
    /// Appends the pieces and feeds them to the hasher, which it hands back.
    async fn append(&mut self, hasher: Hasher, pieces: Vec<Bytes>) -> Result<Hasher, StoreError>;

    /// Returns how far the data has got, once that much is on stable storage.
    async fn checkpoint(&mut self) -> Result<Progress, StoreError>;

    /// Ends the data; on return it is on stable storage, whole.
    async fn complete(&mut self) -> Result<Completion, StoreError>;

    /// Removes what this sink has written and the progress that it began with does not speak
    /// of; failing costs room, nothing else.
    async fn abandon(&mut self);

    /// Returns what could not be removed then, and nobody finds who is not told of it.
    fn left(&self) -> Option<Progress> {
        None
    }

    /// Returns whether appending so many bytes writes to what another writer of the same upload
    /// could be writing to.
    fn is_contended(&self, _length: u64) -> bool {
        false
    }

    /// Returns objects that the first progress speaks of and the present one does not: to be
    /// removed once nothing leads to the first one any more.
    fn merged(&self) -> Vec<DataId> {
        Vec::new()
    }
}

/// Streams a range of an open file.
pub(crate) fn read_file(
    file: File,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
    let file = Arc::new(file);
    futures::stream::try_unfold((file, range), |(file, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        blocking(move || {
            let wanted = usize::try_from(range.end - range.start).unwrap_or(READ_PIECE);
            let mut piece = vec![0; wanted.min(READ_PIECE)];
            file.read_exact_at(&mut piece, range.start)?;
            let rest = range.start + piece.len() as u64..range.end;
            Ok(Some((Bytes::from(piece), (file, rest))))
        })
        .await
    })
}

/// Runs a whole operation where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|failed| Err(std::io::Error::other(failed).into()))
}
