//! `deploy-registry [serve]`: opens the store and serves it until it is told to stop.

use std::{io, path::Path};

use anyhow::{Context as _, Result};
use deploy_registry::serve;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use super::block_on;
use crate::{
    arguments::{Serve, Settings},
    log, printer, storage,
};

pub(super) fn run(arguments: Serve) -> Result<()> {
    log::start(arguments.logging.log_format);
    block_on(run_until_stopped(arguments.settings()?))
}

async fn run_until_stopped(settings: Settings) -> Result<()> {
    // From before anything is done, so that no signal finds us unprepared.
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("watch for signals")?;
    let store = storage::open(&settings.storage)?;
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
            printer::abandon();
        });
    };
    serve(listener, store, settings.server, stop).await;
    Ok(())
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
