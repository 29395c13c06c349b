//! Executes what the machine decides: one work at a time, a look at the channel, a pause, and
//! the signals, whichever comes first. `main` calls it; tests put another executor in.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    deployer::chain,
    error::AgentError,
    machine::{Action, Event, Exit, Id, Mode, Phase, Report, State, Work},
    pause::Pauses,
    source::{Look, Source, SourceError},
    stop::Stop,
};

/// How long a registry is asked to hold its answer back. Proxies tend to end what is silent
/// for a minute.
const LONG_POLL: Duration = Duration::from_secs(50);

/// What a work came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// What [`Work::Recover`] found.
    Recovered {
        /// See [`Event::Recovered`].
        deployed: Option<Id>,
        /// See [`Event::Recovered`].
        unfinished: Option<Id>,
        /// See [`Event::Recovered`].
        uncommitted: Option<Id>,
    },
}

/// Does the works of a deployment.
pub trait Executor: Send + Sync + 'static {
    /// Takes note of a manifest: what is deployed next is described by it.
    fn seen(&self, id: Id, manifest: Vec<u8>) -> impl Future<Output = ()> + Send;

    /// Does one work; ends soon after `stop` is uttered, where that can be done without harm.
    fn execute(
        &self,
        work: Work,
        stop: Stop,
    ) -> impl Future<Output = Result<Outcome, AgentError>> + Send;
}

/// Asks the agent to end, as often as it returns.
pub trait Signals: Send {
    /// Returns when the next signal has come.
    fn next(&mut self) -> impl Future<Output = ()> + Send;
}

/// Runs one machine.
pub struct Runner<S, E> {
    source: Arc<S>,
    executor: Arc<E>,
    mode: Mode,
    pauses: Pauses,
}

type Working = Pin<Box<dyn Future<Output = Result<Outcome, AgentError>> + Send>>;
type Looking = Pin<Box<dyn Future<Output = Result<Look, SourceError>> + Send>>;
type Pausing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is going on beside the machine.
#[derive(Default)]
struct Going {
    work: Option<Working>,
    look: Option<Looking>,
    retry: Option<Pausing>,
}

enum Happened {
    Worked(Result<Outcome, AgentError>),
    Looked(Result<Look, SourceError>),
    Paused,
    Signalled,
}

impl<S: Source, E: Executor> Runner<S, E> {
    /// Returns the runner. Does nothing yet.
    pub fn new(source: Arc<S>, executor: Arc<E>, mode: Mode, pauses: Pauses) -> Self {
        Self {
            source,
            executor,
            mode,
            pauses,
        }
    }

    /// Runs until the machine stops. The first signal asks it to; the second ends at once what
    /// is being done.
    pub async fn run(self, mut signals: impl Signals) -> Exit {
        let stop = Stop::default();
        let mut going = Going::default();
        let (mut state, mut actions) = State::start(self.mode);
        loop {
            for action in actions {
                self.act(action, &mut going, &stop);
            }
            match state.phase() {
                Phase::Stopped(exit) => return *exit,
                Phase::Deploying { .. } | Phase::Recovering => {
                    (going.look, going.retry) = (None, None)
                }
                Phase::Watching { .. } => going.retry = None,
                Phase::Waiting { .. } => {}
            }
            let event = match going.next(&mut signals).await {
                Happened::Worked(result) => self.worked(result, &stop),
                Happened::Looked(result) => self.looked(result, &state).await,
                Happened::Paused => Event::Retry,
                Happened::Signalled if stop.is_stopped() => {
                    tracing::warn!("ending at once");
                    return Exit::Failure;
                }
                Happened::Signalled => Event::Shutdown,
            };
            tracing::debug!(phase = ?state.phase(), ?event, "event");
            (state, actions) = state.step(event);
        }
    }

    fn act(&self, action: Action, going: &mut Going, stop: &Stop) {
        match action {
            Action::Work(work) => {
                tracing::debug!(?work, "begins");
                let (executor, stop) = (Arc::clone(&self.executor), stop.clone());
                going.work = Some(Box::pin(async move { executor.execute(work, stop).await }));
            }
            Action::Watch { known, pause } => {
                let pause = self.pauses.before_look(pause);
                let wait = if self.mode == Mode::Follow {
                    LONG_POLL
                } else {
                    Duration::ZERO
                };
                let source = Arc::clone(&self.source);
                going.look = Some(Box::pin(async move {
                    sleep(pause).await;
                    source.look(known.as_ref(), wait).await
                }));
            }
            Action::Retry { failures } => {
                let pause = self.pauses.before_retry(failures);
                tracing::warn!(failures, "not deployed; trying again in {}", rounded(pause));
                going.retry = Some(Box::pin(sleep(pause)));
            }
            Action::Interrupt => {
                tracing::info!("ending");
                stop.stop();
            }
            Action::Report(report) => self.report(&report),
        }
    }

    fn worked(&self, result: Result<Outcome, AgentError>, stop: &Stop) -> Event {
        match result {
            Ok(Outcome::Done) => Event::Done,
            Ok(Outcome::Recovered {
                deployed,
                unfinished,
                uncommitted,
            }) => Event::Recovered {
                deployed,
                unfinished,
                uncommitted,
            },
            Err(AgentError::Interrupted) if stop.is_stopped() => Event::Failed,
            Err(error) => {
                tracing::error!("{}", chain(&error));
                Event::Failed
            }
        }
    }

    async fn looked(&self, result: Result<Look, SourceError>, state: &State) -> Event {
        match result {
            Ok(Look::Manifest { id, bytes }) => {
                self.executor.seen(id.clone(), bytes).await;
                Event::Seen(id)
            }
            Ok(Look::Unchanged { waited }) => Event::Unchanged { waited },
            Ok(Look::Missing) => Event::Missing,
            Err(error) => {
                if state.source_is_silent() {
                    tracing::debug!("{error}");
                } else {
                    tracing::error!("{}", chain(&error));
                }
                Event::SourceFailed
            }
        }
    }

    fn report(&self, report: &Report) {
        let source = self.source.name();
        match report {
            Report::Current(id) => {
                tracing::info!(release.id = %id, "`{source}` is deployed already")
            }
            Report::Found(id) => tracing::info!(release.id = %id, "`{source}` is to be deployed"),
            Report::Retrying(id, failures) => {
                tracing::debug!(release.id = %id, failures, "the release is not deployed");
            }
            Report::Abandoned(id) => {
                tracing::info!(release.id = %id, "the failing release is given up: the channel moved")
            }
            Report::Deployed(id) => tracing::info!(release.id = %id, "`{source}` is deployed"),
            Report::SourceLost => {
                tracing::warn!("`{source}` cannot be looked at; looking again until it can")
            }
            Report::SourceBack => tracing::info!("`{source}` can be looked at again"),
            Report::ChannelMissing => tracing::error!("`{source}` does not exist"),
            Report::Finishing(id) => {
                tracing::info!(release.id = %id, "an earlier run was ended after its script succeeded; finishing");
            }
        }
    }
}

impl Going {
    /// Returns what happens first.
    async fn next(&mut self, signals: &mut impl Signals) -> Happened {
        let happened = tokio::select! {
            // A result that is there counts before the wish to end.
            biased;
            result = pending(&mut self.work) => Happened::Worked(result),
            () = signals.next() => Happened::Signalled,
            result = pending(&mut self.look) => Happened::Looked(result),
            () = pending(&mut self.retry) => Happened::Paused,
        };
        match happened {
            Happened::Worked(_) => self.work = None,
            Happened::Looked(_) => self.look = None,
            Happened::Paused => self.retry = None,
            Happened::Signalled => {}
        }
        happened
    }
}

/// Waits for what may not be there: then for ever.
async fn pending<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn rounded(pause: Duration) -> humantime::FormattedDuration {
    let millis = pause.as_millis().try_into().unwrap_or(u64::MAX);
    let step = if millis >= 1000 { 100 } else { 1 };
    humantime::format_duration(Duration::from_millis(millis / step * step))
}
