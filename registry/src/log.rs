//! The log: what the program does, line by line on standard error, and as traces where somebody
//! collects them. Started by the verbs.

use std::io;

use anyhow::{Context as _, Result};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::{arguments::LogFormat, traces::Traces};

/// A layer of any kind, right above the registry of spans.
type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// The library reports each attempt that it makes again; what came of them is ours to say.
const UNLESS_SET: &str = "info,object_store=warn";

/// The log while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Log {
    /// Starts the log. How much it says is up to `RUST_LOG`, and [`UNLESS_SET`] otherwise.
    pub(crate) fn start(format: LogFormat, traces: Option<&Traces>) -> Self {
        let (filter, handle) = reload::Layer::new(from_environment());
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        let lines: BoxedLayer = match format {
            LogFormat::Text => lines.with_ansi(false).boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        // The filter is that of the lines alone: traces take more.
        let mut layers = vec![lines.with_filter(filter).boxed()];
        layers.extend(traces.map(Traces::layer));
        tracing_subscriber::registry().with(layers).init();
        Self { filter: handle }
    }

    /// Changes how much is said; `None` is what `RUST_LOG` says.
    ///
    /// # Errors
    /// Where the filter cannot be understood, nothing changes.
    pub(crate) fn set_filter(&self, filter: Option<&str>) -> Result<()> {
        let filter = match filter {
            None => from_environment(),
            Some(filter) => (EnvFilter::builder())
                .with_default_directive(LevelFilter::INFO.into())
                .parse(filter)
                .with_context(|| format!("cannot understand the log filter `{filter}`"))?,
        };
        self.filter.reload(filter).context("change the log filter")
    }
}

fn from_environment() -> EnvFilter {
    let set = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let filter = if set.is_empty() { UNLESS_SET } else { &set };
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(filter)
}
