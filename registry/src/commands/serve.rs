//! `deploy-registry [serve]`: opens the store and serves it until it is told to stop.

use std::{io, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use deploy_registry::{
    AccessFormat, AccessLog, Limiter,
    auth::{Gatekeeper, Tokens, UsedNonces},
    serve,
    server::Mode,
    store::Location,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use super::block_on;
use crate::{
    arguments::{AccessTarget, LogFormat, Logging, People, Serve, Settings},
    log::Log,
    notify::Notify,
    printer,
    reload::Reload,
    storage,
    traces::Traces,
    trust::{self, CertificateFiles},
    watched::LOOKS,
};

pub(super) fn run(arguments: Serve) -> Result<()> {
    block_on(async {
        let mut settings = arguments.clone().settings()?;
        let traces = Traces::start(|name| std::env::var_os(name))?;
        let log = Log::start(arguments.logging.log_format, traces.as_ref());
        let limiter = Limiter::default();
        let access_log = access_log(&arguments.logging)?;
        let reload = Reload {
            file: arguments.config.clone(),
            flags: arguments.limits.clone(),
            limiter: limiter.clone(),
            access_log: access_log.clone(),
            log,
            certificate: None,
            people: None,
        };
        reload.load()?;
        settings.server.limiter = limiter;
        settings.server.access_log = access_log;
        settings.server.traced = traces.is_some();
        let done = run_until_stopped(settings, reload).await;
        if let Some(traces) = traces {
            traces.end().await;
        }
        done
    })
}

fn access_log(logging: &Logging) -> Result<AccessLog> {
    let format = match logging.log_format {
        LogFormat::Text => AccessFormat::Text,
        LogFormat::Json => AccessFormat::Json,
    };
    match &logging.access_log {
        AccessTarget::Nowhere => Ok(AccessLog::off()),
        AccessTarget::Stderr => AccessLog::stderr(format).context("start the access log"),
        AccessTarget::File(path) => AccessLog::file(format, path)
            .with_context(|| format!("cannot write the access log to `{}`", path.display())),
    }
}

async fn run_until_stopped(mut settings: Settings, mut reload: Reload) -> Result<()> {
    // From before anything is done, so that no signal finds us unprepared.
    let mut hangup = signal(SignalKind::hangup()).context("watch for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("watch for signals")?;
    let read_only = settings.server.mode == Mode::ReadOnly;
    let store = storage::open(&settings.storage, read_only).await?;
    let location = settings.storage.location()?;
    let identity = trust::identity(&settings.identity, &location, read_only)?;
    let fingerprint = identity.fingerprint();
    let tls = trust::tls(&settings.identity, &identity)?;
    reload.certificate = CertificateFiles::of(&settings.identity).map(|files| (tls.clone(), files));
    let names = trust::known_names(&settings.identity, &identity, &tls);
    settings.server.tls = Some(tls);
    if let People::Known(sources) = &settings.people {
        let (tokens, nonces) = (Tokens::of(&identity), UsedNonces::of(&store, read_only));
        let gatekeeper = Arc::new(Gatekeeper::new(tokens, names, nonces, sources)?);
        reload.people = Some((gatekeeper.clone(), sources.clone()));
        settings.server.gatekeeper = Some(gatekeeper);
    }
    if let Location::Directory(directory) = location {
        settings.server.control = Some(directory);
    }
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
    tracing::info!(%address, %fingerprint, ?store, "listening");
    let notify = Notify::new(std::env::var_os("NOTIFY_SOCKET").as_deref());
    notify.ready(&format!("serving on {address}"));
    tokio::spawn(async move {
        let mut watched = reload.watched();
        loop {
            tokio::select! {
                told = hangup.recv() => match told {
                    Some(()) => reload.again(),
                    None => return,
                },
                () = sleep(LOOKS), if !watched.is_empty() => {
                    if watched.changed() {
                        reload.again();
                    }
                }
            }
        }
    });
    let stop = async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::info!(signal = name, "told to stop; once more ends at once");
        notify.stopping();
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
