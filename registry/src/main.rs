//! The program `deploy-registry`: reads flags, opens the store, serves it until it is told to
//! stop.

mod config;

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;
use deploy_registry::{Store, StoreError, serve};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

use config::{Flags, LogFormat, Place, Settings};

const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let flags = Flags::parse_from(deploy_spec::arguments::normalise(std::env::args_os()));
    start_log(flags.log_format);
    let settings = match flags.settings() {
        Ok(settings) => settings,
        Err(error) => return say(USAGE, &error),
    };
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => say(FAILED, &format_args!("{error:#}")),
    }
}

/// Says on standard error why the program ends.
fn say(code: u8, what: &dyn std::fmt::Display) -> ExitCode {
    // Where nobody reads it, the exit code must do.
    let _ = writeln!(io::stderr(), "deploy-registry: {what}");
    ExitCode::from(code)
}

fn start_log(format: LogFormat) {
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

/// As many file operations may be under way at once. More would not make a disk faster, and
/// each takes a thread.
const BLOCKING_THREADS: usize = 128;

fn run(settings: Settings) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(run_until_stopped(settings))
}

async fn run_until_stopped(settings: Settings) -> anyhow::Result<()> {
    // From before anything is done, so that no signal finds us unprepared.
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("watch for signals")?;
    let store = match &settings.place {
        Place::Memory => Store::memory(),
        Place::Directory(directory) => open(directory)?,
    };
    let listener = TcpListener::bind(settings.addresses.as_slice())
        .await
        .with_context(|| format!("cannot listen on `{}`", listed(&settings)))?;
    let address = listener
        .local_addr()
        .context("read the address listened on")?;
    if let Some(file) = &settings.address_file {
        write_address(file, &address.to_string())
            .with_context(|| format!("cannot write the address to `{}`", file.display()))?;
    }
    tracing::info!(%address, ?store, "listening");
    let stop = async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::info!(signal = name, "told to stop; once more ends at once");
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(i32::from(FAILED));
        });
    };
    serve(listener, store, settings.server, stop).await;
    Ok(())
}

fn open(directory: &Path) -> anyhow::Result<Store> {
    Store::open(directory).map_err(|error| {
        let hint = match &error {
            StoreError::InUse { .. } => "hint: stop that one first, or use another directory",
            StoreError::Directory { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "hint: create it, or name another one with `--dir`"
            }
            _ => "hint: it must be a directory that this user may write to",
        };
        let cause = std::error::Error::source(&error)
            .map_or_else(String::new, |cause| format!(": {cause}"));
        anyhow::anyhow!("{error}{cause}\n{hint}")
    })
}

fn listed(settings: &Settings) -> String {
    let addresses: Vec<String> = settings.addresses.iter().map(ToString::to_string).collect();
    addresses.join("`, `")
}

/// Whoever waits for the file sees all of it or nothing.
fn write_address(file: &Path, address: &str) -> io::Result<()> {
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".new");
    std::fs::write(&unfinished, format!("{address}\n"))?;
    std::fs::rename(unfinished, file)
}
