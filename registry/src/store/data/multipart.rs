//! Blob data in stores with multipart uploads: S3 and its like, and memory. Parts go straight
//! under the final key, which shows nothing until the upload completes.
//!
//! Every part but the last has a size that its number alone decides. So a part holds the same
//! bytes of the blob whoever writes it and however the client cut its requests: a writer that
//! was overtaken, and whose last part arrives late, puts back what is there.
//!
//! Stores take no part below 5 MiB except the last, and nobody knows which one that is while a
//! request ends. What is left over then is *parked* in an object of its own. If the blob is
//! closed with nothing else, that object is the blob, and no byte was written twice; otherwise it
//! is read once, becomes the beginning of a part, and is removed.

use std::{collections::VecDeque, fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use deploy_spec::Hasher;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutPayload,
    multipart::{MultipartStore, PartId},
    path::Path,
};

use super::{BlobData, Completion, KIB, Parked, Parts, Pieces, Pool, Progress, Sink, blocking};
use crate::store::{
    error::{StoreError, causes},
    ingest::INLINE_MAX,
    keys::DataId,
};

/// S3 takes no smaller part, except the last one of an upload.
const PART: usize = 5 * 1024 * KIB;
/// Parts from this number on are larger, because there may be 10,000 of them: blobs of 24 GiB
/// go in equal parts, which some stores insist on, blobs of up to 146 GiB go at all.
const LARGE_FROM: usize = 5_000;
const LARGE_PART: usize = 5 * PART;
/// Objects that are removed at the same time.
const AT_ONCE: usize = 8;

const UPLOAD_GONE: &str = "the multipart upload is gone";

/// Returns the size of a part that is not the last.
fn part_size(index: usize) -> usize {
    if index < LARGE_FROM { PART } else { LARGE_PART }
}

/// A store that is both things in one.
pub(crate) trait MultipartObjectStore: ObjectStore + MultipartStore {}
impl<S: ObjectStore + MultipartStore> MultipartObjectStore for S {}

/// Data objects of such a store.
#[derive(Clone)]
pub(crate) struct MultipartData(Arc<dyn MultipartObjectStore>, Pool);

impl MultipartData {
    pub(crate) fn new(store: Arc<dyn MultipartObjectStore>) -> Self {
        Self(store, Pool::default())
    }
}

impl fmt::Debug for MultipartData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MultipartData({})", self.0)
    }
}

#[async_trait]
impl BlobData for MultipartData {
    fn pieces(&self) -> Pieces {
        Pieces {
            wanted: PART,
            minimum: INLINE_MAX,
        }
    }

    fn pool(&self) -> &Pool {
        &self.1
    }

    fn sink(&self, key: Path, progress: Progress) -> Box<dyn Sink> {
        Box::new(MultipartSink {
            store: self.clone(),
            key,
            fresh: !progress.is_bound(),
            in_parts: progress.length - progress.parked_length().min(progress.length),
            progress,
            buffer: Buffer::default(),
            wrote_key: false,
            missed: 0,
            parked: Vec::new(),
            merged: Vec::new(),
            left: None,
        })
    }

    async fn discard(&self, key: &Path, progress: &Progress) -> Result<(), StoreError> {
        if progress.multipart.is_some() {
            self.release(key, progress).await?;
            // Completed, perhaps: then the object itself goes.
            self.forget(key).await?;
        }
        let pieces = progress.parked.iter().map(|piece| piece.data.key());
        futures::stream::iter(pieces.collect::<Vec<_>>())
            .map(|key| async move { self.forget(&key).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn release(&self, key: &Path, progress: &Progress) -> Result<(), StoreError> {
        match &progress.multipart {
            Some(Parts { id, .. }) => self.abort(key, id).await,
            None => Ok(()),
        }
    }

    async fn forget(&self, key: &Path) -> Result<(), StoreError> {
        match self.0.delete(key).await {
            Err(Error::NotFound { .. }) => Ok(()),
            done => Ok(done?),
        }
    }
}

impl MultipartData {
    /// Gives the parts back. That there is no such upload any more is no news.
    async fn abort(&self, key: &Path, id: &str) -> Result<(), StoreError> {
        match self.0.abort_multipart(key, &id.to_owned()).await {
            Err(error) if is_gone(&error) => Ok(()),
            done => Ok(done?),
        }
    }

    async fn read_whole(&self, piece: &Parked) -> Result<Bytes, StoreError> {
        let key = piece.data.key();
        let bytes = self.0.get(&key).await?.bytes().await?;
        if bytes.len() as u64 == piece.length {
            return Ok(bytes);
        }
        Err(StoreError::Damaged {
            key: key.to_string(),
            reason: format!("it holds {} of {} bytes", bytes.len(), piece.length),
        })
    }
}

struct MultipartSink {
    store: MultipartData,
    key: Path,
    /// Whether nobody else writes under the key.
    fresh: bool,
    /// Parts and parked pieces; what is in the buffer comes behind. Its length is not kept.
    progress: Progress,
    /// How many bytes the parts hold.
    in_parts: u64,
    buffer: Buffer,
    /// Whether there may be an object under the key, by this sink.
    wrote_key: bool,
    /// How many bytes found no multipart upload to go to: somebody has completed or ended it.
    missed: u64,
    /// Pieces that this sink has parked.
    parked: Vec<DataId>,
    /// Pieces that others had parked and this sink has taken up.
    merged: Vec<DataId>,
    /// A multipart upload that the store did not end.
    left: Option<Parts>,
}

impl MultipartSink {
    fn next_part(&self) -> usize {
        let parts = self.progress.multipart.as_ref();
        parts.map_or(0, |multipart| multipart.parts.len())
    }

    /// Returns how many bytes stand behind the parts.
    fn waiting(&self) -> u64 {
        self.progress.parked_length() + self.buffer.length
    }

    /// Sends whatever fills a part.
    async fn send_full_parts(&mut self) -> Result<(), StoreError> {
        loop {
            let size = part_size(self.next_part());
            if self.waiting() < size as u64 {
                return Ok(());
            }
            self.unpark().await?;
            let payload = self.buffer.take(size);
            self.put_part(payload).await?;
        }
    }

    /// Brings back what was parked, in front of the buffer.
    async fn unpark(&mut self) -> Result<(), StoreError> {
        let pieces = std::mem::take(&mut self.progress.parked);
        let store = &self.store;
        let reads = pieces.iter().map(|piece| store.read_whole(piece));
        match futures::future::try_join_all(reads).await {
            Ok(read) => {
                for bytes in read.into_iter().rev() {
                    self.buffer.push_front(bytes);
                }
                let taken = pieces.into_iter().map(|piece| piece.data);
                self.merged.extend(taken);
                Ok(())
            }
            Err(error) => {
                self.progress.parked = pieces;
                Err(error)
            }
        }
    }

    /// Sends a part. Where the multipart upload is gone, goes on without: if what has taken
    /// its place is the same blob, then all is well.
    async fn put_part(&mut self, payload: PutPayload) -> Result<(), StoreError> {
        let length = payload.content_length() as u64;
        if self.missed > 0 {
            self.missed += length;
            return Ok(());
        }
        let store = &self.store.0;
        let multipart = match &mut self.progress.multipart {
            Some(multipart) => multipart,
            none => none.insert(Parts {
                id: store.create_multipart(&self.key).await?,
                parts: Vec::new(),
            }),
        };
        let (id, index) = (&multipart.id, multipart.parts.len());
        match store.put_part(&self.key, id, index, payload).await {
            Ok(part) => {
                multipart.parts.push(part.content_id);
                self.in_parts += length;
            }
            Err(Error::NotFound { .. }) if !self.fresh => self.missed = length,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn complete_multipart(&mut self, multipart: &Parts) -> Result<Completion, StoreError> {
        if self.missed > 0 {
            return self.find_completed(UPLOAD_GONE.into()).await;
        }
        let parts = multipart.parts.iter().map(|part| PartId {
            content_id: part.clone(),
        });
        self.wrote_key = true;
        let store = &self.store.0;
        let completed = store
            .complete_multipart(&self.key, &multipart.id, parts.collect())
            .await;
        match completed {
            Ok(_) => Ok(Completion::Here),
            // Done before, by a request whose answer was lost or by somebody who closed it too.
            Err(Error::NotFound { source, .. }) => self.find_completed(source).await,
            // The same, as others say it; or a writer that was overtaken had other bytes for a
            // part, and was late with them.
            Err(error) if is_about_parts(&error) => self.find_completed(error.into()).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn find_completed(
        &self,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> Result<Completion, StoreError> {
        match self.store.0.head(&self.key).await {
            Ok(found) if found.size == self.in_parts + self.missed => Ok(Completion::Found),
            Ok(_) | Err(Error::NotFound { .. }) => Err(StoreError::from(Error::NotFound {
                path: self.key.to_string(),
                source,
            })),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns whether the store knows of no such multipart upload; memory says so in words alone.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) || error.to_string().contains("Upload not found")
}

/// Returns whether the store does not have the parts that it is told to put together.
fn is_about_parts(error: &Error) -> bool {
    let text = error.to_string();
    text.contains("InvalidPart") || text.contains("InvalidBlockList")
}

#[async_trait]
impl Sink for MultipartSink {
    async fn append(
        &mut self,
        mut hasher: Hasher,
        pieces: Vec<Bytes>,
    ) -> Result<Hasher, StoreError> {
        let hashed = pieces.clone();
        let hash = blocking(move || {
            hashed.iter().for_each(|piece| hasher.update(piece));
            Ok(hasher)
        });
        self.buffer.extend(pieces);
        let (hasher, sent) = tokio::join!(hash, self.send_full_parts());
        sent?;
        hasher
    }

    async fn checkpoint(&mut self) -> Result<Progress, StoreError> {
        if self.missed > 0 {
            return Err(StoreError::from(Error::NotFound {
                path: self.key.to_string(),
                source: UPLOAD_GONE.into(),
            }));
        }
        if self.buffer.length > 0 {
            let (data, length) = (DataId::random(), self.buffer.length);
            // Noted first: a write that seems to fail may have been done.
            self.parked.push(data.clone());
            self.store.0.put(&data.key(), self.buffer.all()).await?;
            self.buffer = Buffer::default();
            self.progress.parked.push(Parked { data, length });
        }
        Ok(Progress {
            length: self.in_parts + self.progress.parked_length(),
            ..self.progress.clone()
        })
    }

    async fn complete(&mut self) -> Result<Completion, StoreError> {
        if let (None, [whole], 0) = (
            &self.progress.multipart,
            self.progress.parked.as_slice(),
            self.buffer.length,
        ) {
            return Ok(Completion::At(whole.data.clone()));
        }
        self.unpark().await?;
        if self.progress.multipart.is_some() && self.buffer.length > 0 {
            let rest = std::mem::take(&mut self.buffer).all();
            self.put_part(rest).await?;
        }
        if let Some(multipart) = self.progress.multipart.clone() {
            return self.complete_multipart(&multipart).await;
        }
        self.wrote_key = true;
        self.store.0.put(&self.key, self.buffer.all()).await?;
        Ok(Completion::Here)
    }

    async fn abandon(&mut self) {
        let mut keys: Vec<Path> = self.parked.iter().map(DataId::key).collect();
        if self.fresh {
            if let Some(parts) = &self.progress.multipart
                && let Err(error) = self.store.abort(&self.key, &parts.id).await
            {
                tracing::warn!(cause = causes(&error), "cannot abort a multipart upload");
                self.left = Some(parts.clone());
            }
            if self.wrote_key {
                keys.push(self.key.clone());
            }
        }
        for key in keys {
            if let Err(error) = self.store.forget(&key).await {
                tracing::warn!(
                    cause = causes(&error),
                    "cannot remove data of an upload that failed"
                );
            }
        }
    }

    fn left(&self) -> Option<Progress> {
        self.left.clone().map(|parts| Progress {
            // Something, in any case: else there would be nothing to remove.
            length: self.in_parts.max(1),
            multipart: Some(parts),
            parked: Vec::new(),
        })
    }

    fn is_contended(&self, length: u64) -> bool {
        !self.fresh && self.waiting() + length >= part_size(self.next_part()) as u64
    }

    fn merged(&self) -> Vec<DataId> {
        self.merged.clone()
    }
}

/// Bytes in order, in the pieces in which they came.
#[derive(Default)]
struct Buffer {
    pieces: VecDeque<Bytes>,
    length: u64,
}

impl Buffer {
    fn extend(&mut self, pieces: Vec<Bytes>) {
        for piece in pieces {
            self.length += piece.len() as u64;
            self.pieces.push_back(piece);
        }
    }

    fn push_front(&mut self, piece: Bytes) {
        self.length += piece.len() as u64;
        self.pieces.push_front(piece);
    }

    /// Takes so many bytes away from the front; there are as many.
    fn take(&mut self, size: usize) -> PutPayload {
        let mut taken = Vec::new();
        let mut wanted = size;
        while wanted > 0
            && let Some(mut piece) = self.pieces.pop_front()
        {
            if piece.len() > wanted {
                let rest = piece.split_off(wanted);
                self.pieces.push_front(rest);
            }
            wanted -= piece.len();
            self.length -= piece.len() as u64;
            taken.push(piece);
        }
        taken.into_iter().collect()
    }

    fn all(&self) -> PutPayload {
        self.pieces.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_bytes_are_the_first_ones_whatever_the_pieces() {
        let mut buffer = Buffer::default();
        buffer.extend(vec![Bytes::from_static(b"cd"), Bytes::from_static(b"efgh")]);
        buffer.push_front(Bytes::from_static(b"ab"));
        assert_eq!(buffer.length, 8);
        assert_eq!(Bytes::from(buffer.take(5)), "abcde");
        assert_eq!(Bytes::from(buffer.take(1)), "f");
        assert_eq!((Bytes::from(buffer.all()), buffer.length), ("gh".into(), 2));
    }

    #[test]
    fn parts_are_equal_up_to_24_gib_and_enough_for_146() {
        let sizes: u64 = (0..10_000).map(|index| part_size(index) as u64).sum();
        assert_eq!(part_size(LARGE_FROM - 1), PART);
        assert!(sizes >= 146 << 30, "{sizes}");
    }
}
