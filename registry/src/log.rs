//! The log: what the program does, line by line on standard error. Started by the verbs.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::arguments::LogFormat;

/// Starts the log. How much it says is up to `RUST_LOG`, and `info` unless set.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
