//! Blob data in stores with multipart uploads: memory now, S3 and its like later. Parts go
//! straight under the final key, which shows nothing until the upload completes.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use deploy_spec::Hasher;
use object_store::{
    ObjectStore, ObjectStoreExt as _, PutPayload,
    multipart::{MultipartStore, PartId},
    path::Path,
};

use super::{BlobData, KIB, Parts, Pieces, Progress, Sink, blocking};
use crate::store::error::StoreError;

/// S3 takes no smaller part, except the last one of an upload.
const PART: usize = 5 * 1024 * KIB;

/// A store that is both things in one.
pub(crate) trait MultipartObjectStore: ObjectStore + MultipartStore {}
impl<S: ObjectStore + MultipartStore> MultipartObjectStore for S {}

/// Data objects of such a store.
#[derive(Clone)]
pub(crate) struct MultipartData(Arc<dyn MultipartObjectStore>);

impl MultipartData {
    pub(crate) fn new(store: Arc<dyn MultipartObjectStore>) -> Self {
        Self(store)
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
            minimum: PART,
        }
    }

    fn sink(&self, key: Path, progress: Progress) -> Box<dyn Sink> {
        Box::new(MultipartSink {
            store: self.0.clone(),
            key,
            progress,
            last: None,
        })
    }

    async fn discard(&self, key: &Path, progress: &Progress) -> Result<(), StoreError> {
        if let Some(Parts { id, .. }) = &progress.multipart {
            // Gone already, or completed: then the object itself goes.
            let _ = self.0.abort_multipart(key, id).await;
        }
        self.forget(key).await
    }

    async fn forget(&self, key: &Path) -> Result<(), StoreError> {
        match self.0.delete(key).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            done => Ok(done?),
        }
    }
}

struct MultipartSink {
    store: Arc<dyn MultipartObjectStore>,
    key: Path,
    progress: Progress,
    /// A first piece too small to be a part: it must be the whole blob.
    last: Option<PutPayload>,
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
        let payload: PutPayload = pieces.into_iter().collect();
        let length = payload.content_length();
        if self.progress.multipart.is_none() && length < PART {
            self.last = Some(payload);
            self.progress.length += length as u64;
            return hash.await;
        }
        let parts = match &mut self.progress.multipart {
            Some(parts) => parts,
            none => none.insert(Parts {
                id: self.store.create_multipart(&self.key).await?,
                parts: Vec::new(),
            }),
        };
        let index = parts.parts.len();
        let put = self.store.put_part(&self.key, &parts.id, index, payload);
        let (hasher, part) = tokio::join!(hash, put);
        parts.parts.push(part?.content_id);
        self.progress.length += length as u64;
        hasher
    }

    async fn checkpoint(&mut self) -> Result<Progress, StoreError> {
        Ok(self.progress())
    }

    fn progress(&self) -> Progress {
        self.progress.clone()
    }

    async fn complete(&mut self) -> Result<(), StoreError> {
        match (&self.progress.multipart, self.last.take()) {
            (Some(Parts { id, parts }), _) => {
                let parts = parts
                    .iter()
                    .map(|part| PartId {
                        content_id: part.clone(),
                    })
                    .collect();
                self.store.complete_multipart(&self.key, id, parts).await?;
            }
            (None, payload) => {
                let payload = payload.unwrap_or_default();
                self.store.put(&self.key, payload).await?;
            }
        }
        Ok(())
    }
}
