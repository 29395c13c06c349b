//! A backend whose operations are counted, and are spans of a trace where there is one. Wrapped
//! around every backend by [`crate::store::Store`].

use std::{
    fmt,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;
use deploy_spec::Hasher;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use tracing::Instrument as _;

use super::{
    data::{BlobData, Completion, Pieces, Pool, Progress, Sink},
    error::StoreError,
    keys::DataId,
    meter::{Meter, Operation, Outcome},
};

/// A backend whose operations are counted.
#[derive(Clone, Debug)]
pub(crate) struct Metered<S> {
    backend: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    pub(crate) fn new(backend: S, meter: Arc<Meter>) -> Self {
        Self { backend, meter }
    }

    async fn operation<T>(
        &self,
        operation: Operation,
        key: &Path,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let span = tracing::debug_span!("store", operation = operation.name(), %key);
        let started = Instant::now();
        let done = work.instrument(span).await;
        let outcome = Outcome::of(&done);
        self.meter.ended(operation, outcome, started.elapsed());
        done
    }

    fn stream<T: Send + 'static>(
        &self,
        operation: Operation,
        stream: BoxStream<'static, Result<T>>,
        started: Option<Instant>,
    ) -> BoxStream<'static, Result<T>> {
        MeteredStream {
            stream,
            meter: self.meter.clone(),
            operation,
            started,
        }
        .boxed()
    }
}

impl<S: fmt::Display> fmt::Display for Metered<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(formatter)
    }
}

/// A stream that is counted when its first item is there, and when it breaks off.
struct MeteredStream<T> {
    stream: BoxStream<'static, Result<T>>,
    meter: Arc<Meter>,
    operation: Operation,
    /// Nothing, where the operation is counted already.
    started: Option<Instant>,
}

impl<T> Stream for MeteredStream<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = self.stream.poll_next_unpin(context);
        if let Poll::Ready(item) = &item {
            let outcome = item.as_ref().map_or(Outcome::Done, Outcome::of);
            match self.started.take() {
                Some(started) => self.meter.ended(self.operation, outcome, started.elapsed()),
                None if outcome == Outcome::Done => {}
                None => self.meter.broke_off(self.operation, outcome),
            }
        }
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Metered<S> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        let put = self.backend.put_opts(location, payload, opts);
        let done = self.operation(Operation::Put, location, put).await?;
        self.meter.written(bytes);
        Ok(done)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let create = self.backend.put_multipart_opts(location, opts);
        (self.operation(Operation::CreateMultipart, location, create)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = match options.head {
            true => Operation::Head,
            false => Operation::Get,
        };
        let get = self.backend.get_opts(location, options);
        let mut found = self.operation(operation, location, get).await?;
        if operation == Operation::Get {
            self.meter.read(found.range.end - found.range.start);
            if let GetResultPayload::Stream(stream) = found.payload {
                let stream = self.stream(operation, stream, None);
                found.payload = GetResultPayload::Stream(stream);
            }
        }
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let get = self.backend.get_ranges(location, ranges);
        let pieces = self.operation(Operation::Get, location, get).await?;
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        self.meter.read(bytes as u64);
        Ok(pieces)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let meter = self.meter.clone();
        let mut started = Instant::now();
        (self.backend.delete_stream(locations))
            .inspect(move |deleted| {
                let now = Instant::now();
                let took = now.duration_since(started);
                meter.ended(Operation::Delete, Outcome::of(deleted), took);
                started = now;
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let started = Instant::now();
        self.stream(Operation::List, self.backend.list(prefix), Some(started))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let started = Instant::now();
        let listing = self.backend.list_with_offset(prefix, offset);
        self.stream(Operation::List, listing, Some(started))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let root = Path::default();
        let list = self.backend.list_with_delimiter(prefix);
        (self.operation(Operation::List, prefix.unwrap_or(&root), list)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copy = self.backend.copy_opts(from, to, options);
        self.operation(Operation::Copy, to, copy).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let rename = self.backend.rename_opts(from, to, options);
        self.operation(Operation::Copy, to, rename).await
    }
}

#[async_trait]
impl<S: MultipartStore> MultipartStore for Metered<S> {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let create = self.backend.create_multipart(path);
        (self.operation(Operation::CreateMultipart, path, create)).await
    }

    async fn create_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<MultipartId> {
        let create = self.backend.create_multipart_opts(path, opts);
        (self.operation(Operation::CreateMultipart, path, create)).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let bytes = data.content_length() as u64;
        let put = self.backend.put_part(path, id, part_idx, data);
        let part = self.operation(Operation::PutPart, path, put).await?;
        self.meter.written(bytes);
        Ok(part)
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let complete = self.backend.complete_multipart(path, id, parts);
        (self.operation(Operation::CompleteMultipart, path, complete)).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let abort = self.backend.abort_multipart(path, id);
        (self.operation(Operation::AbortMultipart, path, abort)).await
    }
}

/// A place for data, whose writes are counted where no backend does that: files.
#[derive(Debug)]
pub(crate) struct MeteredData<D> {
    data: D,
    meter: Arc<Meter>,
}

impl<D> MeteredData<D> {
    pub(crate) fn new(data: D, meter: Arc<Meter>) -> Self {
        Self { data, meter }
    }
}

#[async_trait]
impl<D: BlobData> BlobData for MeteredData<D> {
    fn pieces(&self) -> Pieces {
        self.data.pieces()
    }

    fn pool(&self) -> &Pool {
        self.data.pool()
    }

    fn sink(&self, key: Path, progress: Progress) -> Box<dyn Sink> {
        Box::new(MeteredSink {
            sink: self.data.sink(key, progress),
            meter: self.meter.clone(),
        })
    }

    async fn discard(&self, key: &Path, progress: &Progress) -> Result<(), StoreError> {
        self.data.discard(key, progress).await
    }

    async fn release(&self, key: &Path, progress: &Progress) -> Result<(), StoreError> {
        self.data.release(key, progress).await
    }

    async fn forget(&self, key: &Path) -> Result<(), StoreError> {
        self.data.forget(key).await
    }
}

struct MeteredSink {
    sink: Box<dyn Sink>,
    meter: Arc<Meter>,
}

impl MeteredSink {
    fn ended<T>(&self, operation: Operation, started: Instant, done: &Result<T, StoreError>) {
        let outcome = match done {
            Ok(_) => Outcome::Done,
            Err(_) => Outcome::Failed,
        };
        self.meter.ended(operation, outcome, started.elapsed());
    }
}

#[async_trait]
impl Sink for MeteredSink {
    async fn append(&mut self, hasher: Hasher, pieces: Vec<Bytes>) -> Result<Hasher, StoreError> {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        let started = Instant::now();
        let done = self.sink.append(hasher, pieces).await;
        self.ended(Operation::Write, started, &done);
        if done.is_ok() {
            self.meter.written(bytes as u64);
        }
        done
    }

    async fn checkpoint(&mut self) -> Result<Progress, StoreError> {
        let started = Instant::now();
        let done = self.sink.checkpoint().await;
        self.ended(Operation::Sync, started, &done);
        done
    }

    async fn complete(&mut self) -> Result<Completion, StoreError> {
        let started = Instant::now();
        let done = self.sink.complete().await;
        self.ended(Operation::Sync, started, &done);
        done
    }

    async fn abandon(&mut self) {
        self.sink.abandon().await;
    }

    fn left(&self) -> Option<Progress> {
        self.sink.left()
    }

    fn is_contended(&self, length: u64) -> bool {
        self.sink.is_contended(length)
    }

    fn merged(&self) -> Vec<DataId> {
        self.sink.merged()
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;
    use object_store::{ObjectStoreExt as _, PutMode, memory::InMemory};

    use super::*;

    #[tokio::test]
    async fn operations_are_counted_by_what_came_of_them() {
        let meter = Arc::new(Meter::default());
        let store = Metered::new(InMemory::new(), meter.clone());
        let key = Path::from("a");
        assert!(store.get(&key).await.is_err());
        store.put(&key, "12345".into()).await.unwrap();
        let create = store.put_opts(&key, "1".into(), PutMode::Create.into());
        assert!(create.await.is_err());
        assert_eq!(
            store.get(&key).await.unwrap().bytes().await.unwrap(),
            "12345"
        );
        assert_eq!(store.head(&key).await.unwrap().size, 5);
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1);
        store.delete(&key).await.unwrap();
        for (operation, outcome, expected) in [
            (Operation::Get, Outcome::Absent, 1),
            (Operation::Get, Outcome::Done, 1),
            (Operation::Head, Outcome::Done, 1),
            (Operation::Put, Outcome::Done, 1),
            (Operation::Put, Outcome::Conflict, 1),
            (Operation::List, Outcome::Done, 1),
            (Operation::Delete, Outcome::Done, 1),
            (Operation::Delete, Outcome::Failed, 0),
        ] {
            let counted = meter.count(operation, outcome);
            assert_eq!(counted, expected, "{operation:?} {outcome:?}");
        }
        assert_eq!(meter.bytes(), (5, 5));
        assert_eq!(meter.durations(Operation::Put).count, 2);
    }
}
