//! What `/metrics` says: numbers that others count, in the exposition format. One file a group
//! of families; a test holds the operator's page to all of them.

mod audit;
mod collect;
mod logins;
mod process;
mod requests;
mod storage;
mod upkeep;

use std::sync::Arc;

use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::{audit::Counts, jobs::Totals, store::Store};

pub(crate) use logins::{LoginKind, LoginOutcome, Logins, Reason};
pub(crate) use requests::{Exchange, Requests, Route};

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Arc<Requests>,
    logins: Arc<Logins>,
}

impl Metrics {
    /// Returns the metrics of a registry on this store, looked after by who fills `totals`, and
    /// of its audit log.
    pub(crate) fn new(store: &Store, totals: Arc<Totals>, audit: Arc<Counts>) -> Self {
        let requests = Arc::new(Requests::default());
        let logins = Arc::new(Logins::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::Process::new()));
        let ours = registry.sub_registry_with_prefix("deploy_registry");
        ours.register_collector(Box::new(process::Build));
        ours.register_collector(Box::new(requests.clone()));
        ours.register_collector(Box::new(logins.clone()));
        ours.register_collector(Box::new(storage::Storage(store.meter().clone())));
        ours.register_collector(Box::new(upkeep::Upkeep(totals)));
        ours.register_collector(Box::new(audit::Audit(audit)));
        Self {
            registry,
            requests,
            logins,
        }
    }

    pub(crate) fn logins(&self) -> &Logins {
        &self.logins
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Returns everything in the exposition format.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("strings take everything");
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use http::Method;

    /// Every family, with its type and unit.
    fn families(text: &str) -> Vec<(String, String)> {
        text.lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split_once(' '))
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .collect()
    }

    fn encoded() -> String {
        let metrics = Metrics::new(&Store::memory(), Arc::default(), Arc::default());
        let exchange = Exchange::new(Route::Blob, &Method::GET);
        let status = http::StatusCode::OK;
        (metrics.requests()).answered(exchange, status, Duration::from_millis(1));
        metrics.encode()
    }

    #[test]
    fn every_family_is_on_the_operators_page() {
        let page = include_str!("../../README.md");
        let families = families(&encoded());
        assert!(families.len() > 20, "{families:?}");
        for (name, kind) in families {
            // As it is written in queries.
            let written = match kind.as_str() {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name,
            };
            let documented = page.contains(&format!("`{written}`"));
            assert!(documented, "`{written}` is not in README.md");
        }
    }

    #[test]
    fn names_keep_the_conventions() {
        let text = encoded();
        for (name, kind) in families(&text) {
            let ours = name.starts_with("deploy_registry_") || name.starts_with("process_");
            assert!(ours, "{name}");
            assert!(!name.ends_with("_total"), "{name}: the encoder adds that");
            for unit in ["milliseconds", "minutes", "kib", "mib"] {
                assert!(!name.contains(unit), "{name}: base units only");
            }
            if kind == "histogram" {
                assert!(name.ends_with("_seconds"), "{name}");
            }
        }
        let mut names: Vec<_> = families(&text);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), families(&text).len(), "a family comes twice");
        assert!(text.ends_with("# EOF\n"));
    }
}
