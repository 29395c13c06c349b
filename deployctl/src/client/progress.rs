//! How far a transfer is, told to whoever shows it. Passed to downloads and uploads.

use std::{fmt, sync::Arc};

type Report = dyn Fn(u64) + Send + Sync;

/// A callback that gets the position of a transfer, in bytes from its beginning.
///
/// The position may fall back, when a transfer has to begin again. Called often and from any
/// thread: it must return at once.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<Report>>);

impl Progress {
    /// Returns progress that goes to `report`.
    pub fn new(report: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(report)))
    }

    /// Returns progress that nobody looks at.
    pub fn none() -> Self {
        Self(None)
    }

    /// Tells the position.
    pub fn report(&self, position: u64) {
        if let Some(report) = &self.0 {
            report(position);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Progress")
    }
}
