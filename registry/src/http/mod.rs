//! The HTTP side: the distribution API over a [`Store`], and the endpoints for operators.
//! Decides no storage question. [`crate::server`] serves what [`service`] returns.
//!
//! ```text
//! router                 the table: method and resource → handler
//!   blobs uploads manifests tags referrers catalog audit extensions operation    handlers
//!     path  query  conditions  body      what a request says
//!     error  pages  trace  telemetry     what an answer says, and what stays of it
//! ```

mod access;
mod audit;
mod blobs;
mod body;
mod catalog;
pub(crate) mod conditions;
mod error;
mod extensions;
mod headers;
mod manifests;
mod operation;
pub(crate) mod pages;
pub(crate) mod path;
pub(crate) mod query;
mod referrers;
mod router;
mod tags;
pub(crate) mod telemetry;
mod token;
mod trace;
mod uploads;

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    access_log::AccessLog, audit::AuditLog, limits::Limiter, metrics::Metrics, store::Store,
};

pub(crate) use access::{Access, Scheme};
pub(crate) use router::service;
pub(crate) use trace::Peer;

/// What every handler has at hand. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    store: Store,
    metrics: Arc<Metrics>,
    settings: Settings,
    /// Turns true when the server wants to stop.
    stopping: watch::Receiver<bool>,
    /// Work that goes on when its client is gone.
    tasks: TaskTracker,
}

/// How requests are treated.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) access: Access,
    /// How long a body may make no progress.
    pub(crate) idle: Duration,
    pub(crate) limiter: Limiter,
    pub(crate) access_log: AccessLog,
    pub(crate) audit: AuditLog,
    /// Whether somebody collects traces.
    pub(crate) traced: bool,
}

impl App {
    pub(crate) fn new(
        store: Store,
        metrics: Arc<Metrics>,
        settings: Settings,
        stopping: watch::Receiver<bool>,
        tasks: TaskTracker,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            metrics,
            settings,
            stopping,
            tasks,
        }))
    }

    fn store(&self) -> &Store {
        &self.0.store
    }

    fn access(&self) -> &Access {
        &self.0.settings.access
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn limiter(&self) -> &Limiter {
        &self.0.settings.limiter
    }

    fn access_log(&self) -> &AccessLog {
        &self.0.settings.access_log
    }

    fn audit(&self) -> &AuditLog {
        &self.0.settings.audit
    }

    fn is_traced(&self) -> bool {
        self.0.settings.traced
    }

    /// Returns how long a body may make no progress.
    fn idle(&self) -> Duration {
        self.0.settings.idle
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
