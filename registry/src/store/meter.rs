//! What the store asks of its backend, counted: how often, how long, with what outcome. Filled
//! by `metered`, read by [`crate::metrics`].

use std::time::Duration;

use object_store::Error;

use crate::measure::{Count, Durations, Latency};

/// What is asked of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    Head,
    Put,
    Delete,
    /// Until its first entry.
    List,
    Copy,
    CreateMultipart,
    PutPart,
    CompleteMultipart,
    AbortMultipart,
    /// Bytes of a large blob, into a file of a local directory.
    Write,
    /// Those bytes, onto stable storage.
    Sync,
}

impl Operation {
    pub(crate) const ALL: [Self; 12] = [
        Self::Get,
        Self::Head,
        Self::Put,
        Self::Delete,
        Self::List,
        Self::Copy,
        Self::CreateMultipart,
        Self::PutPart,
        Self::CompleteMultipart,
        Self::AbortMultipart,
        Self::Write,
        Self::Sync,
    ];

    /// Returns its name in metrics and traces.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Copy => "copy",
            Self::CreateMultipart => "create_multipart",
            Self::PutPart => "put_part",
            Self::CompleteMultipart => "complete_multipart",
            Self::AbortMultipart => "abort_multipart",
            Self::Write => "write",
            Self::Sync => "sync",
        }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// There is no such object.
    Absent,
    /// A condition does not hold: somebody else was faster.
    Conflict,
    /// Anything else: what an operator should look at.
    Failed,
}

impl Outcome {
    pub(crate) const ALL: [Self; 4] = [Self::Done, Self::Absent, Self::Conflict, Self::Failed];

    pub(crate) fn of<T>(result: &object_store::Result<T>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(Error::NotFound { .. }) => Self::Absent,
            Err(
                Error::AlreadyExists { .. }
                | Error::Precondition { .. }
                | Error::NotModified { .. },
            ) => Self::Conflict,
            Err(_) => Self::Failed,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Absent => "absent",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

/// Counts the operations of a store's backend.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    operations: [Measured; Operation::ALL.len()],
    read: Count,
    written: Count,
}

#[derive(Debug, Default)]
struct Measured {
    outcomes: [Count; Outcome::ALL.len()],
    latency: Latency,
}

impl Meter {
    /// Counts an operation that has ended.
    pub(crate) fn ended(&self, operation: Operation, outcome: Outcome, took: Duration) {
        self.broke_off(operation, outcome);
        self.operations[operation as usize].latency.observe(took);
    }

    /// Counts what became of an operation whose duration says nothing, or is counted already.
    pub(crate) fn broke_off(&self, operation: Operation, outcome: Outcome) {
        self.operations[operation as usize].outcomes[outcome as usize].add(1);
    }

    pub(crate) fn read(&self, bytes: u64) {
        self.read.add(bytes);
    }

    pub(crate) fn written(&self, bytes: u64) {
        self.written.add(bytes);
    }

    pub(crate) fn count(&self, operation: Operation, outcome: Outcome) -> u64 {
        self.operations[operation as usize].outcomes[outcome as usize].get()
    }

    pub(crate) fn durations(&self, operation: Operation) -> Durations {
        self.operations[operation as usize].latency.read()
    }

    /// Returns how many bytes were read and written.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.read.get(), self.written.get())
    }
}
