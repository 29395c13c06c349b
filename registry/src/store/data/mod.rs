//! Where the bytes of large blobs go while they stream: one small trait, one implementer for a
//! local directory and one for stores with multipart uploads. Used by `ingest` to write and by
//! `objects` to read.

mod local;
mod multipart;

use std::{fmt, fs::File, ops::Range, os::unix::fs::FileExt as _, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use deploy_spec::Hasher;
use futures::Stream;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

pub(crate) use local::LocalData;
pub(crate) use multipart::MultipartData;

use super::error::StoreError;

const KIB: usize = 1024;
/// Large files are read in pieces of this size: hyper has no `sendfile`, so every piece costs
/// a system call and a switch of threads.
const READ_PIECE: usize = 256 * KIB;

/// How far the bytes of an unfinished blob have got; part of an upload's session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// How many bytes are written.
    pub(crate) length: u64,
    /// The multipart upload that holds them, on stores that have such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) multipart: Option<Parts>,
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
    /// No piece but the last of a blob may be smaller.
    pub(crate) minimum: usize,
}

/// A place for the data of blobs.
#[async_trait]
pub(crate) trait BlobData: Send + Sync + fmt::Debug {
    /// Returns the sizes of pieces to hand to [`Sink::append`].
    fn pieces(&self) -> Pieces;

    /// Returns what writes behind the first `progress.length` bytes of `key`. Writes nothing
    /// yet; bytes behind that length, of an attempt that failed, are overwritten.
    fn sink(&self, key: Path, progress: Progress) -> Box<dyn Sink>;

    /// Removes what was written to an unfinished blob.
    async fn discard(&self, key: &Path, progress: &Progress) -> Result<(), StoreError>;

    /// Removes an object without waiting for the disk: were it to come back after a loss of
    /// power, it would harm nobody.
    async fn forget(&self, key: &Path) -> Result<(), StoreError>;
}

/// Writes one blob's data, in order.
#[async_trait]
pub(crate) trait Sink: Send {
    /// Appends the pieces and feeds them to the hasher, which it hands back.
    async fn append(&mut self, hasher: Hasher, pieces: Vec<Bytes>) -> Result<Hasher, StoreError>;

    /// Returns how far the data has got, once that much is on stable storage.
    async fn checkpoint(&mut self) -> Result<Progress, StoreError>;

    /// Returns how far the data has got, durable or not, to discard it.
    fn progress(&self) -> Progress;

    /// Ends the data; on return it is on stable storage, whole, under its key.
    async fn complete(&mut self) -> Result<(), StoreError>;
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
