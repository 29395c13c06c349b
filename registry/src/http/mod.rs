//! The HTTP side: the distribution API over a [`Store`], and the endpoints for operators.
//! Decides no storage question. [`crate::server`] serves what [`service`] returns.
//!
//! ```text
//! router                 the table: method and resource → handler
//!   blobs uploads manifests tags referrers catalog extensions operation    handlers
//!     path  query  conditions  body      what a request says
//!     error  pages  trace  metrics       what an answer says, and what stays of it
//! ```

mod access;
mod blobs;
mod body;
mod catalog;
mod conditions;
mod error;
mod extensions;
mod manifests;
mod metrics;
mod operation;
mod pages;
mod path;
mod query;
mod referrers;
mod router;
mod tags;
mod trace;
mod uploads;

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::store::Store;

pub(crate) use access::Access;
pub(crate) use metrics::Metrics;
pub(crate) use router::service;

/// What every handler has at hand. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    store: Store,
    access: Access,
    metrics: Metrics,
    idle: Duration,
    /// Turns true when the server wants to stop.
    stopping: watch::Receiver<bool>,
    /// Work that goes on when its client is gone.
    tasks: TaskTracker,
}

impl App {
    pub(crate) fn new(
        store: Store,
        access: Access,
        idle: Duration,
        stopping: watch::Receiver<bool>,
        tasks: TaskTracker,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            access,
            metrics: Metrics::new(),
            idle,
            stopping,
            tasks,
        }))
    }

    fn store(&self) -> &Store {
        &self.0.store
    }

    fn access(&self) -> Access {
        self.0.access
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Returns how long a body may make no progress.
    fn idle(&self) -> Duration {
        self.0.idle
    }

    fn is_stopping(&self) -> bool {
        *self.0.stopping.borrow()
    }

    /// Returns once the server wants to stop.
    async fn stopped(&self) {
        let mut stopping = self.0.stopping.clone();
        // An error says that the server is gone already.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Runs work to its end even where its client goes away, and returns what it returned.
    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        use tracing::Instrument as _;
        match self.0.tasks.spawn(work.in_current_span()).await {
            Ok(done) => done,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}
