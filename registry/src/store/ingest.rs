//! Taking a body in: network, hash and disk at work at the same time, with a bounded number of
//! bytes in memory. Used by `uploads`.
//!
//! While one piece is hashed and written, the next one arrives; a slow disk thereby slows the
//! sender down.

use bytes::Bytes;
use deploy_spec::{Digest, Hasher};
use futures::Stream;

use super::{
    data::{BlobData, Completion, Progress, Sink},
    error::{BodyError, StoreError},
    fence::Fence,
    held::Held,
    keys::DataId,
    objects::Version,
};

const KIB: usize = 1024;
/// Blobs up to this size live in the record that publishes them.
pub(crate) const INLINE_MAX: usize = 64 * KIB;
/// A blob on its way in.
pub(crate) struct Ingest<'a> {
    store: &'a dyn BlobData,
    sink: Box<dyn Sink>,
    data: DataId,
    /// Raised before anything is written that another writer could be writing to.
    fence: Option<Fence>,
    /// Has seen what is in the sink, and not what is held.
    hasher: Hasher,
    written: u64,
    held: Held,
}

/// An unfinished blob at rest.
pub(crate) struct Suspended {
    pub(crate) progress: Progress,
    pub(crate) hasher: Hasher,
    pub(crate) tail: Vec<Bytes>,
}

/// What a whole blob turned out to be.
pub(crate) struct Settled {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) place: Place,
    /// Whether the bytes there are those that were hashed; otherwise they are to be read.
    pub(crate) is_ours: bool,
    /// Whether what was to be done beside is done.
    pub(crate) beside: bool,
}

/// Where a blob's bytes are.
pub(crate) enum Place {
    /// Here: small enough for the publishing record.
    Inline(Bytes),
    /// In a data object.
    Data(DataId),
}

impl<'a> Ingest<'a> {
    /// Goes on behind what is at rest. Where others could go on as well, `fence` keeps them out.
    pub(crate) fn resume(
        store: &'a dyn BlobData,
        data: DataId,
        suspended: Suspended,
        fence: Option<Fence>,
    ) -> Self {
        Self {
            store,
            held: Held::new(
                store.pool().clone(),
                suspended.progress.length,
                suspended.tail,
            ),
            written: suspended.progress.length,
            sink: store.sink(data.key(), suspended.progress),
            data,
            fence,
            hasher: suspended.hasher,
        }
    }

    /// Returns the fence, raised or not.
    pub(crate) fn fence(&mut self) -> Option<&mut Fence> {
        self.fence.as_mut()
    }

    /// Returns which state of the session the raised fence made.
    pub(crate) fn raised(&self) -> Option<Version> {
        self.fence.as_ref().and_then(Fence::raised).cloned()
    }

    /// Removes what was written and nothing speaks of. Returns what could not be removed.
    pub(crate) async fn abandon(&mut self) -> Option<(DataId, Progress)> {
        self.sink.abandon().await;
        Some((self.data.clone(), self.sink.left()?))
    }

    /// Returns objects that are part of others now, to be removed once no session names them.
    pub(crate) fn merged(&self) -> Vec<DataId> {
        self.sink.merged()
    }

    async fn fence_off(&mut self, length: u64) -> Result<(), StoreError> {
        match &mut self.fence {
            Some(fence) if self.sink.is_contended(length) => fence.raise().await,
            _ => Ok(()),
        }
    }

    /// Takes the body to its end. What arrived before an error of the body is in; an error of
    /// the store leaves the blob useless.
    pub(crate) async fn take(
        &mut self,
        mut body: impl Stream<Item = Result<Bytes, BodyError>> + Unpin,
    ) -> Result<Result<(), BodyError>, StoreError> {
        let store = self.store;
        let wanted = || store.pieces().wanted;
        let mut end = self.held.fill(&mut body, wanted).await;
        loop {
            if let Some(end) = end {
                return Ok(end);
            }
            let pieces = self.held.take_full();
            let length = size(&pieces);
            self.fence_off(length).await?;
            let append = self.sink.append(self.hasher.clone(), pieces);
            let (hasher, filled) = tokio::join!(append, self.held.fill(&mut body, wanted));
            self.hasher = hasher?;
            self.written += length;
            end = filled;
        }
    }

    /// Writes what is held.
    async fn flush(&mut self) -> Result<(), StoreError> {
        let held = self.held.take_gathered();
        if !held.is_empty() {
            let length = size(&held);
            self.fence_off(length).await?;
            self.written += length;
            self.hasher = self.sink.append(self.hasher.clone(), held).await?;
        }
        Ok(())
    }

    /// True where all of the blob is held, and little.
    fn is_small(&self) -> bool {
        self.written == 0 && self.held.length() <= INLINE_MAX as u64
    }

    /// Puts the blob to rest: everything but the tail is on stable storage on return.
    pub(crate) async fn suspend(&mut self) -> Result<Suspended, StoreError> {
        if !self.is_small() && self.held.length() >= self.store.pieces().minimum as u64 {
            self.flush().await?;
        }
        let progress = match self.written {
            0 => Progress::default(),
            _ => self.sink.checkpoint().await?,
        };
        Ok(Suspended {
            progress,
            hasher: self.hasher.clone(),
            tail: self.held.take(),
        })
    }

    /// Ends the blob: on return its bytes are on stable storage, unless they are inline. While
    /// they get there, and it is certain that they are what is expected, `beside` is done.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] where `expected` is of the algorithm that was computed,
    /// and another one. Where it is of another algorithm, the caller compares.
    pub(crate) async fn settle(
        &mut self,
        expected: &Digest,
        beside: impl Future<Output = Result<(), StoreError>>,
    ) -> Result<Settled, StoreError> {
        let mut place = if self.is_small() {
            let bytes = self.held.take_joined();
            self.hasher = Hasher::new(expected.algorithm());
            self.hasher.update(&bytes);
            self.written = bytes.len() as u64;
            Place::Inline(bytes)
        } else {
            self.flush().await?;
            Place::Data(self.data.clone())
        };
        let digest = self.hasher.clone().finish();
        if digest.algorithm() == expected.algorithm() && digest != *expected {
            return Err(StoreError::DigestMismatch {
                expected: expected.clone(),
                actual: digest,
            });
        }
        let mut is_ours = true;
        let is_certain = digest == *expected && matches!(place, Place::Data(_));
        if let Place::Data(data) = &mut place {
            if let Some(fence) = &mut self.fence {
                fence.raise().await?;
            }
            let (completion, beside) = match is_certain {
                true => tokio::join!(self.sink.complete(), beside),
                false => (self.sink.complete().await, Ok(())),
            };
            let completion = completion?;
            beside?;
            match completion {
                Completion::Here => {}
                Completion::At(elsewhere) => *data = elsewhere,
                Completion::Found => is_ours = false,
            }
        }
        Ok(Settled {
            digest,
            size: self.written,
            place,
            is_ours,
            beside: is_certain,
        })
    }
}

fn size(pieces: &[Bytes]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}
