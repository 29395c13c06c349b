//! An object store in memory that fails, or dies, at a chosen operation.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use object_store::{Error, Result, memory::InMemory};

use crate::hooked::{Hook, Hooked, Operation};

/// From the operation on at which it breaks, everything fails: what is stored then is what a
/// process would leave behind that dies there. Where `after` is set, the operation itself is
/// done, and only its answer is lost.
pub(crate) type Faulty = Hooked<Failure>;

/// When the store fails, and how.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// How many operations may still be done.
    left: Arc<AtomicUsize>,
    after: bool,
    kind: ErrorKind,
}

impl Faulty {
    /// Over the content of `store`, does `operations` and then fails.
    pub(crate) fn new(store: InMemory, operations: usize, after: bool, kind: ErrorKind) -> Self {
        let left = Arc::new(AtomicUsize::new(operations));
        Self::over(store, Failure { left, after, kind })
    }
}

impl Failure {
    /// Returns whether it has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn error(&self) -> Error {
        Error::Generic {
            store: "Faulty",
            source: std::io::Error::from(self.kind).into(),
        }
    }
}

impl Hook for Failure {
    async fn around<T: Send>(
        &self,
        _: Operation<'_>,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let take = |left: usize| left.checked_sub(1);
        let left = (self.left).fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        match left {
            Err(_) => Err(self.error()),
            Ok(1) if self.after => work.await.and(Err(self.error())),
            Ok(1) => Err(self.error()),
            Ok(_) => work.await,
        }
    }
}
