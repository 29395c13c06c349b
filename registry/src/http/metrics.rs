//! The numbers behind `/metrics`. Counted by `trace`, and by nobody else.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
    method: &'static str,
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    latency: Family<Route, Histogram, fn() -> Histogram>,
    running: Gauge,
    received: Counter<u64, AtomicU64>,
    sent: Counter<u64, AtomicU64>,
    started: Instant,
    uptime: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("deploy_registry");
        let requests = Family::<Request, Counter>::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        // From a quarter of a millisecond, as small blobs take, to two minutes.
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.00025, 2.0, 20));
        let latency = Family::<Route, Histogram, fn() -> Histogram>::new_with_constructor(buckets);
        let help = "Time until the answer began";
        registry.register_with_unit(
            "http_request_duration",
            help,
            Unit::Seconds,
            latency.clone(),
        );
        let running = Gauge::default();
        registry.register(
            "http_requests_running",
            "Requests whose answer has not begun",
            running.clone(),
        );
        let received = Counter::default();
        registry.register_with_unit(
            "http_received",
            "Bodies of requests",
            Unit::Bytes,
            received.clone(),
        );
        let sent = Counter::default();
        registry.register_with_unit("http_sent", "Bodies of answers", Unit::Bytes, sent.clone());
        let uptime = Gauge::default();
        registry.register_with_unit(
            "uptime",
            "Time since the start",
            Unit::Seconds,
            uptime.clone(),
        );
        Self {
            registry,
            requests,
            latency,
            running,
            received,
            sent,
            started: Instant::now(),
            uptime,
        }
    }

    /// Counts a request as running until dropped.
    pub(crate) fn begin(&self) -> Running {
        self.running.inc();
        Running(self.running.clone())
    }

    pub(crate) fn answered(
        &self,
        route: &'static str,
        method: &'static str,
        status: u16,
        took: Duration,
    ) {
        self.requests
            .get_or_create(&Request {
                route,
                method,
                status,
            })
            .inc();
        self.latency
            .get_or_create(&Route { route, method })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn received(&self) -> Counter<u64, AtomicU64> {
        self.received.clone()
    }

    pub(crate) fn sent(&self) -> Counter<u64, AtomicU64> {
        self.sent.clone()
    }

    /// Returns everything in the exposition format.
    pub(crate) fn encode(&self) -> String {
        let seconds = self.started.elapsed().as_secs();
        self.uptime.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("strings take everything");
        text
    }
}

/// A request whose answer has not begun.
#[derive(Debug)]
pub(crate) struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
