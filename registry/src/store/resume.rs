//! Reading a large object to its end although the connection to the store breaks on the way:
//! what is left is asked for anew. Used by `objects`, for objects that never change.
//!
//! The clouds' clients go on by themselves, but only while the time of their retries lasts,
//! counted from the beginning; a large blob, or somebody who reads slowly, outlasts that.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use object_store::{Error, GetOptions, GetRange, GetResultPayload, ObjectStore, path::Path};

use super::error::StoreError;

/// Failures in a row, without a byte in between, after which it is given up.
const FAILURES: u32 = 5;
/// Before the second attempt; doubled before each one that follows.
const PAUSE: Duration = Duration::from_millis(100);

type Pieces = BoxStream<'static, object_store::Result<Bytes>>;

/// An object that is being read.
struct Reading {
    store: Arc<dyn ObjectStore>,
    key: Path,
    /// What has not been read.
    rest: Range<u64>,
    pieces: Pieces,
    failures: u32,
}

/// Returns the bytes of the range, of which `pieces` are the first.
pub(super) fn resumed(
    store: Arc<dyn ObjectStore>,
    key: Path,
    range: Range<u64>,
    pieces: Pieces,
) -> BoxStream<'static, Result<Bytes, StoreError>> {
    let reading = Reading {
        store,
        key,
        rest: range,
        pieces,
        failures: 0,
    };
    futures::stream::try_unfold(reading, |mut reading| async move {
        let piece = reading.next().await?;
        Ok(piece.map(|piece| (piece, reading)))
    })
    .boxed()
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        while !self.rest.is_empty() {
            let error = match self.pieces.next().await {
                Some(Ok(piece)) if piece.is_empty() => continue,
                Some(Ok(piece)) => {
                    self.rest.start += piece.len() as u64;
                    self.failures = 0;
                    return Ok(Some(piece));
                }
                Some(Err(error)) => error,
                None => self.too_short(),
            };
            self.failures += 1;
            if self.failures == FAILURES || matches!(error, Error::NotFound { .. }) {
                return Err(error.into());
            }
            tracing::debug!(key = %self.key, from = self.rest.start, %error, "reading on");
            tokio::time::sleep(PAUSE * 2_u32.pow(self.failures - 1)).await;
            self.pieces = self.ask_again().await;
        }
        Ok(None)
    }

    /// Returns what is left, or why it cannot be had.
    async fn ask_again(&mut self) -> Pieces {
        let options = GetOptions {
            range: Some(GetRange::Bounded(self.rest.clone())),
            ..GetOptions::default()
        };
        let failed = |error: Error| futures::stream::iter([Err(error)]).boxed();
        match self.store.get_opts(&self.key, options).await {
            Ok(found) => match found.payload {
                GetResultPayload::Stream(pieces) if found.range == self.rest => pieces,
                _ => failed(self.too_short()),
            },
            Err(error) => failed(error),
        }
    }

    fn too_short(&self) -> Error {
        Error::Generic {
            store: "Resumed",
            source: format!("`{}` ends before byte {}", self.key, self.rest.end).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::TryStreamExt as _;
    use object_store::{ObjectStoreExt as _, memory::InMemory};

    use super::*;

    fn broken() -> Error {
        Error::Generic {
            store: "Broken",
            source: std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into(),
        }
    }

    /// What is read of a range where the first answer breaks off behind so many bytes.
    async fn read(
        store: &InMemory,
        range: Range<u64>,
        first: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let key = Path::from("key");
        let start = usize::try_from(range.start).unwrap();
        let begun = match store.get(&key).await {
            Ok(found) => found.bytes().await.unwrap().slice(start..start + first),
            Err(_) => Bytes::from(vec![0; first]),
        };
        let pieces = futures::stream::iter([Ok(begun), Err(broken())]).boxed();
        resumed(Arc::new(store.clone()), key, range, pieces)
            .try_collect()
            .await
    }

    #[tokio::test(start_paused = true)]
    async fn what_breaks_off_goes_on_where_it_stopped() {
        let store = InMemory::new();
        let bytes: Vec<u8> = (0..100).collect();
        store
            .put(&Path::from("key"), bytes.clone().into())
            .await
            .unwrap();
        for (range, first) in [(0..100, 0), (0..100, 40), (10..90, 79), (10..90, 80)] {
            let expected = &bytes[usize::try_from(range.start).unwrap()..][..];
            let expected = &expected[..usize::try_from(range.end - range.start).unwrap()];
            let pieces = read(&store, range, first).await.unwrap();
            assert_eq!(pieces.concat(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_or_never_comes_is_given_up() {
        let gone = read(&InMemory::new(), 0..10, 5).await;
        assert!(matches!(
            gone,
            Err(StoreError::Backend(Error::NotFound { .. }))
        ));
        let asked = Arc::new(AtomicUsize::new(0));
        let store = InMemory::new();
        store.put(&Path::from("key"), "12".into()).await.unwrap();
        let failing = {
            let asked = asked.clone();
            futures::stream::repeat_with(move || {
                asked.fetch_add(1, Ordering::SeqCst);
                Err(broken())
            })
        };
        // Shorter than it should be: each answer but the first is refused.
        let read = resumed(
            Arc::new(store),
            Path::from("key"),
            0..10,
            failing.take(1).boxed(),
        );
        assert!(read.try_collect::<Vec<_>>().await.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
