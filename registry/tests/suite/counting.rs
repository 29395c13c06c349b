//! An object store in memory that counts what is asked of it. In a cloud, each of these is a request.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use object_store::Result;

use crate::hooked::{Hook, Hooked, Kind, Operation};

/// A store whose operations are counted.
pub(crate) type Counting = Hooked<Counts>;

/// Counts by kind of operation and first part of the key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
    bytes: Arc<Mutex<usize>>,
}

impl Counts {
    /// Returns what was counted since the last call, as `2 create blobs, 1 put data`.
    pub(crate) fn take(&self) -> String {
        let counts = std::mem::take(&mut *self.counts.lock().unwrap());
        let listed: Vec<String> = counts
            .into_iter()
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        listed.join(", ")
    }

    /// Returns how many bytes were written since the last call.
    pub(crate) fn take_bytes(&self) -> usize {
        std::mem::take(&mut *self.bytes.lock().unwrap())
    }

    fn count(&self, operation: Operation<'_>) {
        let what = match operation.kind {
            Kind::Put => "put",
            Kind::Create => "create",
            Kind::Update => "update",
            Kind::Get => "get",
            Kind::Head => "head",
            Kind::Delete => "delete",
            Kind::List => "list",
            Kind::Begin => "begin",
            Kind::Part => "part",
            Kind::Complete => "complete",
            Kind::Abort => "abort",
        };
        let mut parts = operation.key.as_ref().split('/');
        let first = parts.next().unwrap_or_default();
        let within = parts.find(|part| part.starts_with('_'));
        let what = format!("{what} {}", within.unwrap_or(first));
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
        *self.bytes.lock().unwrap() += operation.bytes;
    }
}

impl Hook for Counts {
    async fn around<T: Send>(
        &self,
        operation: Operation<'_>,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.count(operation);
        work.await
    }
}
