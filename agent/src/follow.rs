//! Flags of one or several configurations → as many runners beside each other, and what is there
//! once for all of them. Called by `main`.

use std::sync::Arc;

use anyhow::Result;
use deploy_agent::{
    AnySource, Check, Deployer, Directory, Hook, Metrics, Mirrored, Notify, Pauses, Runner, Script,
    Settings, Stop,
    machine::{Exit, Mode, OnFailure},
};
use futures::future::join_all;

use crate::{
    arguments::Arguments,
    exposition::{self, Listener},
    settings,
    told::Told,
};

type Following = Runner<Mirrored<AnySource>, Deployer<Mirrored<AnySource>>>;

/// Follows all configurations until they end. Where one of them cannot go on, all are ended as by
/// a signal: whoever watches the process shall see it.
pub(crate) async fn follow(all: &[Arguments]) -> Result<Exit> {
    let (notify, metrics) = (settings::notify(), Metrics::default());
    let ended = Stop::default();
    let mut following = Vec::new();
    for arguments in all {
        let signals = Told::listen()?.or(ended.clone());
        let runner = runner(arguments, &notify, &metrics)?;
        let (ended, follows) = (ended.clone(), !arguments.once);
        following.push(async move {
            let exit = runner.run(signals).await;
            if exit == Exit::Failure && follows {
                ended.stop();
            }
            exit
        });
    }
    let place = all.iter().find_map(|arguments| arguments.metrics.as_ref());
    let listener = match place {
        Some(place) => Some(Listener::open(place).await?),
        None => None,
    };
    let file = all
        .iter()
        .find_map(|arguments| arguments.metrics_file.as_deref());
    let serving = async {
        match listener {
            Some(listener) => listener.serve(&metrics).await,
            None => std::future::pending().await,
        }
    };
    let keeping = async {
        match file {
            Some(path) => exposition::keep(path, &metrics).await,
            None => std::future::pending().await,
        }
    };
    notify.ready();
    let exits = tokio::select! {
        exits = join_all(following) => exits,
        () = notify.stay_alive() => unreachable!("it never returns"),
        () = serving => unreachable!("it never returns"),
        () = keeping => unreachable!("it never returns"),
    };
    if let Some(path) = file {
        // What came of it last is what is asked for, above all of a single look.
        metrics.write(path)?;
    }
    Ok(match exits.contains(&Exit::Failure) {
        true => Exit::Failure,
        false => Exit::Success,
    })
}

/// Returns the runner of one configuration, which has its directory from now on.
fn runner(arguments: &Arguments, notify: &Notify, metrics: &Metrics) -> Result<Following> {
    let name = arguments.single()?;
    let open = |hook, path| {
        let script = Script::open(hook, path, std::env::vars_os())?;
        anyhow::Ok(script.limited(arguments.script_timeout.0))
    };
    let script = open(Hook::Script, &arguments.script)?;
    let prepare = arguments.prepare.as_deref();
    let prepare = prepare.map(|path| open(Hook::Prepare, path)).transpose()?;
    let check = arguments.check.as_deref();
    let check = check.map(|path| open(Hook::Check, path)).transpose()?;
    let check = check.map(|script| Check::new(script, arguments.check_timeout, arguments.soak));
    let directory = Arc::new(Directory::open(&arguments.dir, arguments.state.as_deref())?);
    let source = Arc::new(settings::source(arguments, name)?);
    let settings = Settings {
        configuration: name.clone(),
        channel: arguments.channel.to_string(),
        prepare,
        script,
        check,
        gate: settings::gate(arguments, name)?,
        unpacking: arguments.unpacking.options(),
        keep: arguments.keep(),
        reserve: arguments.reserve,
        clock: jiff::Timestamp::now,
    };
    tracing::info!(
        source = %arguments.addr,
        configuration = %name,
        channel = %arguments.channel,
        directory = %directory.path().display(),
        "deploy-agent {}",
        env!("CARGO_PKG_VERSION")
    );
    let deployer = Arc::new(Deployer::new(Arc::clone(&source), directory, settings));
    let mode = if arguments.once {
        Mode::Once
    } else {
        Mode::Follow
    };
    let on_failure = if arguments.rollback {
        OnFailure::Undo
    } else {
        OnFailure::Retry
    };
    let pauses = Pauses::new(arguments.poll);
    let counter = metrics.of(name, arguments.channel.as_ref());
    let runner = Runner::new(source, deployer, mode, on_failure, pauses);
    Ok(runner.telling(notify.clone()).counting(counter))
}
