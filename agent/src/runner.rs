//! Executes what the machine decides: one work at a time, a look at the channel, a pause, and
//! the signals, whichever comes first. `main` calls it; tests put another executor in.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    deployer::chain,
    directory::Request,
    error::AgentError,
    machine::{
        Action, Event, Exit, Id, Mode, OnFailure, Pause, Phase, Recovered, Report, Resume, State,
        Work,
    },
    metrics::Counter,
    notify::Notify,
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
    Recovered(Recovered),
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

    /// Returns what is wrong with a release that is not deployed again, where that is known.
    fn why_bad(&self, id: &Id) -> impl Future<Output = Option<String>> + Send;

    /// Clears the bad-list, also in the middle of a work.
    fn forgive(&self) -> impl Future<Output = Result<(), AgentError>> + Send;

    /// Whether somebody asks for this.
    fn is_asked(&self, request: Request) -> bool;

    /// Takes note that somebody wants the release back that was deployed before, and returns it.
    fn go_back(&self) -> impl Future<Output = Result<Id, AgentError>> + Send;
}

/// What a person asks of a running agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// To end.
    End,
    /// To look what it is asked for.
    Look,
}

/// What people ask of the agent.
pub trait Signals: Send {
    /// Returns the next signal when it has come.
    fn next(&mut self) -> impl Future<Output = Signal> + Send;
}

/// Runs one machine.
pub struct Runner<S, E> {
    source: Arc<S>,
    executor: Arc<E>,
    mode: Mode,
    on_failure: OnFailure,
    pauses: Pauses,
    notify: Notify,
    counter: Counter,
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
    /// How long the source wants to be left alone, as it said last.
    told: Option<Duration>,
    /// Whether the channel has been looked at.
    looked: bool,
    /// Why a release was not let in the last time, and whether that was said before.
    not_let_in: Option<(String, bool)>,
}

enum Happened {
    Worked(Result<Outcome, AgentError>),
    Looked(Result<Look, SourceError>),
    Paused,
    Signalled(Signal),
}

impl<S: Source, E: Executor> Runner<S, E> {
    /// Returns the runner. Does nothing yet.
    pub fn new(
        source: Arc<S>,
        executor: Arc<E>,
        mode: Mode,
        on_failure: OnFailure,
        pauses: Pauses,
    ) -> Self {
        Self {
            source,
            executor,
            mode,
            on_failure,
            pauses,
            notify: Notify::default(),
            counter: Counter::default(),
        }
    }

    /// Returns the runner, which tells a service manager what it is at.
    #[must_use]
    pub fn telling(self, notify: Notify) -> Self {
        Self { notify, ..self }
    }

    /// Returns the runner, which counts what comes of it.
    #[must_use]
    pub fn counting(self, counter: Counter) -> Self {
        Self { counter, ..self }
    }

    /// Runs until the machine stops. The first signal asks it to; the second ends at once what
    /// is being done.
    pub async fn run(self, mut signals: impl Signals) -> Exit {
        let stop = Stop::default();
        let mut going = Going::default();
        let (mut state, mut actions) = State::start(self.mode, self.on_failure);
        loop {
            for action in actions {
                self.act(action, &mut going, &stop).await;
            }
            match state.phase() {
                Phase::Stopped(exit) => return *exit,
                Phase::Deploying { .. } | Phase::Recovering => {
                    (going.look, going.retry) = (None, None)
                }
                Phase::Watching => going.retry = None,
                Phase::Waiting { .. } => {}
            }
            if let Some(event) = self.wanted_back(&state).await {
                (state, actions) = state.step(event);
                continue;
            }
            let event = match going.next(&mut signals).await {
                Happened::Worked(result) => {
                    going.told = result.as_ref().err().and_then(AgentError::retry_after);
                    self.worked(result, &mut going, &stop)
                }
                Happened::Looked(result) => {
                    going.told = result.as_ref().err().and_then(SourceError::retry_after);
                    self.looked(result, &state).await
                }
                Happened::Paused => Event::Retry,
                Happened::Signalled(Signal::End) if stop.is_stopped() => {
                    tracing::warn!("ending at once");
                    return Exit::Failure;
                }
                Happened::Signalled(Signal::End) => {
                    self.notify.stopping();
                    Event::Shutdown
                }
                // Whatever else it may be is seen to as soon as nothing is being done.
                Happened::Signalled(Signal::Look) if !self.executor.is_asked(Request::Retry) => {
                    actions = Vec::new();
                    continue;
                }
                Happened::Signalled(Signal::Look) => match self.executor.forgive().await {
                    Ok(()) => {
                        tracing::info!("what failed before is tried again, as somebody asked for");
                        Event::Forgiven
                    }
                    Err(error) => {
                        tracing::error!("cannot try again what failed: {}", chain(&error));
                        actions = Vec::new();
                        continue;
                    }
                },
            };
            tracing::debug!(phase = ?state.phase(), ?event, "event");
            (state, actions) = state.step(event);
        }
    }

    /// Returns what somebody asked for, where the state allows of it.
    async fn wanted_back(&self, state: &State) -> Option<Event> {
        let free = match state.phase() {
            Phase::Watching => true,
            Phase::Waiting { resume, .. } => resume.gives_way(),
            _ => false,
        };
        if !free || !self.executor.is_asked(Request::Rollback) {
            return None;
        }
        match self.executor.go_back().await {
            Ok(id) => Some(Event::GoBack(id)),
            Err(error) => {
                tracing::error!("cannot go back: {}", chain(&error));
                None
            }
        }
    }

    async fn act(&self, action: Action, going: &mut Going, stop: &Stop) {
        match action {
            Action::Work(work) => {
                tracing::debug!(?work, "begins");
                let (executor, stop) = (Arc::clone(&self.executor), stop.clone());
                going.work = Some(Box::pin(async move { executor.execute(work, stop).await }));
            }
            Action::Watch { known, pause } => {
                let follows = self.mode == Mode::Follow;
                let pause = match pause {
                    Pause::None if follows && !going.looked => self.pauses.before_first_look(),
                    pause => self.pauses.before_look(pause),
                };
                going.looked = true;
                let pause = self.pauses.at_least(going.told, pause);
                let wait = if follows { LONG_POLL } else { Duration::ZERO };
                let source = Arc::clone(&self.source);
                going.look = Some(Box::pin(async move {
                    sleep(pause).await;
                    source.look(known.as_ref(), wait).await
                }));
            }
            Action::Retry { failures, resume } => {
                let pause = self.pauses.before_retry(failures);
                let pause = self.pauses.at_least(going.told, pause);
                let what = match resume {
                    Resume::Undo => "not rolled back",
                    _ => "not deployed",
                };
                let pause_shown = rounded(pause);
                match &going.not_let_in {
                    Some((_, true)) => tracing::debug!(failures, "looking again in {pause_shown}"),
                    Some((_, false)) => {
                        tracing::warn!("looking for signatures again, first in {pause_shown}");
                    }
                    None => tracing::warn!(failures, "{what}; trying again in {pause_shown}"),
                }
                going.retry = Some(Box::pin(sleep(pause)));
            }
            Action::Interrupt => {
                tracing::info!("ending");
                stop.stop();
            }
            Action::Report(report) => self.report(&report).await,
        }
    }

    fn worked(&self, result: Result<Outcome, AgentError>, going: &mut Going, stop: &Stop) -> Event {
        let before = going.not_let_in.take();
        match result {
            Ok(Outcome::Done) => Event::Done,
            Ok(Outcome::Recovered(found)) => Event::Recovered(found),
            Err(AgentError::Interrupted) if stop.is_stopped() => Event::Failed,
            // It may last: once for each reason is enough.
            Err(error) if error.is_lack_of_signature() => {
                let why = chain(&error);
                let said = before.is_some_and(|(before, _)| before == why);
                if said {
                    tracing::debug!("{why}");
                } else {
                    tracing::error!("{why}");
                    self.counter.refused();
                }
                going.not_let_in = Some((why, said));
                Event::Failed
            }
            Err(error) => {
                tracing::error!("{}", chain(&error));
                self.counter.failed();
                if error.is_refusal() {
                    Event::Refused
                } else {
                    Event::Failed
                }
            }
        }
    }

    async fn looked(&self, result: Result<Look, SourceError>, state: &State) -> Event {
        self.counter.looked(result.is_ok());
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

    async fn report(&self, report: &Report) {
        let source = self.source.name();
        self.counter.reported(report);
        self.notify.status(&in_a_word(report, &source));
        match report {
            Report::Current(id) => {
                tracing::info!(release.id = %id, "`{source}` is deployed already")
            }
            Report::Found(id) => tracing::info!(release.id = %id, "`{source}` is to be deployed"),
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
            Report::Bad(id) => {
                let why = self.executor.why_bad(id).await;
                let why = why.unwrap_or_else(|| "it failed before".to_owned());
                tracing::error!(
                    release.id = %id,
                    "`{source}` is not deployed again: {why}; waiting for a newer release or `deploy-agent retry`"
                );
            }
            Report::GoingBack(id) => {
                tracing::warn!(release.id = %id, "going back to the release that was deployed before, as somebody asked for");
            }
            Report::Undoing(id) => {
                tracing::warn!(release.id = %id, "rolling back");
            }
            Report::RolledBack { failed, back } => match back {
                Some(back) => {
                    tracing::warn!(release.id = %failed, back.id = %back, "rolled back; waiting for a newer release or `deploy-agent retry`")
                }
                None => {
                    tracing::warn!(release.id = %failed, "rolled back: nothing is deployed, as before; waiting for a newer release or `deploy-agent retry`")
                }
            },
        }
    }
}

/// Returns what a report comes to, for the service manager's status line.
fn in_a_word(report: &Report, source: &str) -> String {
    match report {
        Report::Current(id) | Report::Deployed(id) => format!("{source}: {id} is deployed"),
        Report::Found(id) => format!("{source}: {id} is being deployed"),
        Report::Abandoned(_) => format!("{source}: the channel moved"),
        Report::SourceLost => format!("{source} cannot be looked at"),
        Report::SourceBack => format!("{source} can be looked at again"),
        Report::ChannelMissing => format!("{source} does not exist"),
        Report::Finishing(id) => format!("{source}: {id} is being finished"),
        Report::Bad(id) => format!("{source}: {id} failed before, waiting for a newer release"),
        Report::GoingBack(id) => format!("{source}: going back to {id}"),
        Report::Undoing(id) => format!("{source}: rolling back {id}"),
        Report::RolledBack { failed, .. } => format!("{source}: rolled back {failed}"),
    }
}

impl Going {
    /// Returns what happens first.
    async fn next(&mut self, signals: &mut impl Signals) -> Happened {
        let happened = tokio::select! {
            // A result that is there counts before the wish to end.
            biased;
            result = pending(&mut self.work) => Happened::Worked(result),
            signal = signals.next() => Happened::Signalled(signal),
            result = pending(&mut self.look) => Happened::Looked(result),
            () = pending(&mut self.retry) => Happened::Paused,
        };
        match happened {
            Happened::Worked(_) => self.work = None,
            Happened::Looked(_) => self.look = None,
            Happened::Paused => self.retry = None,
            Happened::Signalled(_) => {}
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
