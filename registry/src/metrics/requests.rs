//! Requests: how many, how long, how they ended, how many bytes. Counted by `http`, without a
//! lock and without a look-up: there is a place for everything from the start.

use std::{fmt, time::Duration};

use http::{Method, StatusCode};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::collect::Family;
use crate::measure::{Count, Entered, Latency, Level};

/// What requests are about, in few words: clients choose paths, labels must stay few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Api,
    Catalog,
    Extensions,
    Audit,
    Blob,
    Uploads,
    Upload,
    Manifest,
    Tags,
    Referrers,
    Token,
    Live,
    Ready,
    Metrics,
    Other,
}

impl Route {
    const ALL: [Self; 15] = [
        Self::Api,
        Self::Catalog,
        Self::Extensions,
        Self::Audit,
        Self::Blob,
        Self::Uploads,
        Self::Upload,
        Self::Manifest,
        Self::Tags,
        Self::Referrers,
        Self::Token,
        Self::Live,
        Self::Ready,
        Self::Metrics,
        Self::Other,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Catalog => "catalog",
            Self::Extensions => "extensions",
            Self::Audit => "audit",
            Self::Blob => "blob",
            Self::Uploads => "uploads",
            Self::Upload => "upload",
            Self::Manifest => "manifest",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
            Self::Token => "token",
            Self::Live => "healthz",
            Self::Ready => "readyz",
            Self::Metrics => "metrics",
            Self::Other => "other",
        }
    }

    /// Returns whether it is for operators and their probes.
    pub(crate) fn is_operation(self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Metrics)
    }
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "other"];

/// Statuses that requests end with; others share the last place.
const STATUSES: [(u16, &str); 26] = [
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (204, "204"),
    (206, "206"),
    (304, "304"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (411, "411"),
    (412, "412"),
    (413, "413"),
    (414, "414"),
    (416, "416"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (501, "501"),
    (503, "503"),
    (504, "504"),
    (507, "507"),
    (u16::MAX, "other"),
];

/// What a request is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    route: Route,
    method: u8,
}

impl Exchange {
    pub(crate) fn new(route: Route, method: &Method) -> Self {
        let last = METHODS.len() - 1;
        let place = METHODS[..last]
            .iter()
            .position(|name| *name == method.as_str());
        Self {
            route,
            method: u8::try_from(place.unwrap_or(last)).expect("there are few methods"),
        }
    }

    pub(crate) fn route(self) -> Route {
        self.route
    }

    pub(crate) fn method(self) -> &'static str {
        METHODS[usize::from(self.method)]
    }
}

/// Counts requests.
#[derive(Debug)]
pub(crate) struct Requests {
    exchanges: Box<[[Measured; METHODS.len()]]>,
    running: Level,
    uploads: Level,
    connections: Level,
}

#[derive(Debug, Default)]
struct Measured {
    statuses: [Count; STATUSES.len()],
    latency: Latency,
    received: Count,
    sent: Count,
}

impl Default for Requests {
    fn default() -> Self {
        let routes = Route::ALL.iter();
        Self {
            exchanges: routes
                .map(|_| std::array::from_fn(|_| Measured::default()))
                .collect(),
            running: Level::default(),
            uploads: Level::default(),
            connections: Level::default(),
        }
    }
}

impl Requests {
    fn measured(&self, exchange: Exchange) -> &Measured {
        &self.exchanges[exchange.route as usize][usize::from(exchange.method)]
    }

    /// Counts a request as running until dropped.
    pub(crate) fn begin(&self) -> Entered<'_> {
        self.running.enter()
    }

    /// Counts an upload's bytes as being taken in until dropped.
    pub(crate) fn upload(&self) -> Entered<'_> {
        self.uploads.enter()
    }

    /// Counts a connection until dropped.
    pub(crate) fn connection(&self) -> Entered<'_> {
        self.connections.enter()
    }

    /// Counts an answer that has begun.
    pub(crate) fn answered(&self, exchange: Exchange, status: StatusCode, took: Duration) {
        let measured = self.measured(exchange);
        let place = (STATUSES.binary_search_by_key(&status.as_u16(), |(status, _)| *status))
            .unwrap_or(STATUSES.len() - 1);
        measured.statuses[place].add(1);
        measured.latency.observe(took);
    }

    /// Counts bytes of a request's body.
    pub(crate) fn received(&self, exchange: Exchange, bytes: u64) {
        self.measured(exchange).received.add(bytes);
    }

    /// Counts bytes of an answer's body.
    pub(crate) fn sent(&self, exchange: Exchange, bytes: u64) {
        self.measured(exchange).sent.add(bytes);
    }

    /// Returns everything that was asked for at least once.
    fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, &Measured)> {
        (Route::ALL.iter().zip(&self.exchanges)).flat_map(|(route, methods)| {
            (METHODS.iter().zip(methods))
                .filter(|(_, measured)| measured.statuses.iter().any(|count| count.get() > 0))
                .map(|(method, measured)| (route.name(), *method, measured))
        })
    }

    /// Returns the sum for each route that was asked for.
    fn by_route(
        &self,
        count: impl Fn(&Measured) -> u64,
    ) -> impl Iterator<Item = ([(&'static str, &'static str); 1], u64)> {
        (Route::ALL.iter().zip(&self.exchanges))
            .map(move |(route, methods)| {
                let labels = [("route", route.name())];
                (labels, methods.iter().map(&count).sum())
            })
            .filter(|(_, sum)| *sum > 0)
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let encoder = &mut encoder;
        Family::new("http_requests", "Requests answered").counters(
            encoder,
            self.rows().flat_map(|(route, method, measured)| {
                (STATUSES.iter().zip(&measured.statuses))
                    .filter(|(_, count)| count.get() > 0)
                    .map(move |((_, status), count)| {
                        let labels = [("route", route), ("method", method), ("status", *status)];
                        (labels, count.get())
                    })
            }),
        )?;
        Family::seconds("http_request_duration", "Time until the answer began").histograms(
            encoder,
            self.rows().map(|(route, method, measured)| {
                let labels = [("route", route), ("method", method)];
                (labels, measured.latency.read())
            }),
        )?;
        Family::bytes("http_received", "Bodies of requests")
            .counters(encoder, self.by_route(|measured| measured.received.get()))?;
        Family::bytes("http_sent", "Bodies of answers")
            .counters(encoder, self.by_route(|measured| measured.sent.get()))?;
        Family::new(
            "http_requests_running",
            "Requests whose answer has not begun",
        )
        .gauge(encoder, self.running.get())?;
        Family::new("http_connections", "Connections that are open")
            .gauge(encoder, self.connections.get())?;
        Family::new("uploads_running", "Requests that bring an upload's bytes")
            .gauge(encoder, self.uploads.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_place_for_every_request() {
        assert!(STATUSES.is_sorted_by_key(|(status, _)| *status));
        for (place, route) in Route::ALL.iter().enumerate() {
            assert_eq!(*route as usize, place);
        }
        let requests = Requests::default();
        let brew = Method::from_bytes(b"BREW").unwrap();
        for method in [Method::GET, Method::DELETE, brew] {
            for status in [200, 418, 507] {
                let exchange = Exchange::new(Route::Other, &method);
                let status = StatusCode::from_u16(status).unwrap();
                requests.answered(exchange, status, Duration::ZERO);
            }
        }
        let methods: Vec<_> = requests.rows().map(|(_, method, _)| method).collect();
        assert_eq!(methods, ["GET", "DELETE", "other"]);
    }
}
