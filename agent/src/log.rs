//! The log and the last words of the process, both on stderr. Called by `main`.

use std::io::{IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, fmt::time::SystemTime, prelude::*};

/// Starts the log: one line for every decision, more of them when `verbose`.
pub(crate) fn start(verbose: bool) {
    let own = if verbose {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    let targets = Targets::new()
        .with_default(LevelFilter::WARN)
        // What it refuses comes back as an error, which says more and is logged once.
        .with_target("rustls_platform_verifier", LevelFilter::OFF)
        .with_targets([("deploy_agent", own), ("deployctl", own), ("script", own)]);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_timer(SystemTime)
        .with_target(false);
    tracing_subscriber::registry()
        .with(lines)
        .with(targets)
        .init();
}

/// Says in one line why the agent did not start, and a hint in another where there is one.
pub(crate) fn complain(message: &str) {
    // Nobody is left to tell when this fails.
    writeln!(std::io::stderr(), "deploy-agent: {message}").ok();
}

/// Says what is wrong with the command line of a verb, or of none; help and version go to stdout.
pub(crate) fn usage(error: &clap::Error, verb: Option<&str>) -> u8 {
    if !error.use_stderr() {
        error.print().ok();
        return 0;
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // What follows the first empty line is clap's own hints.
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = first.split_whitespace().collect();
    let verb = verb.map(|verb| format!("{verb} ")).unwrap_or_default();
    complain(&format!(
        "{}\nhint: see deploy-agent {verb}--help",
        words.join(" ")
    ));
    2
}
