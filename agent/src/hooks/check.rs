//! The check: asked until the host is well, and then for a while whether it stays so.
//! `deployer` calls it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Script, Switch, Tail};
use crate::{error::AgentError, stop::Stop};

/// The pause after the first no; the next ones double
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// up to here.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// While it has to stay well, the check is asked so many times,
const ASKED_IN_SOAK: u32 = 10;
/// but not more often,
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// and not less often.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

/// A script that tells whether the host is well, and how long it is asked.
#[derive(Clone, Debug)]
pub struct Check {
    script: Script,
    timeout: Duration,
    soak: Duration,
}

impl Check {
    /// Returns the check that has to pass once within `timeout`, and then each time that it is
    /// asked for the time of `soak`. A single run takes no longer than the script may, and no
    /// longer than `timeout`.
    pub fn new(script: Script, timeout: Duration, soak: Duration) -> Self {
        Self {
            script,
            timeout,
            soak,
        }
    }

    /// Asks the check. What its last run printed is left in `tail`.
    ///
    /// # Errors
    /// [`AgentError::Refused`] where it did not pass in time, or not for long enough;
    /// [`AgentError::Interrupted`] where it was stopped; any other where it could not be run,
    /// which says nothing of the release.
    pub(crate) async fn run(
        &self,
        switch: &Switch<'_>,
        tail: &Tail,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        self.become_well(switch, tail, stop).await?;
        self.stay_well(switch, tail, stop).await
    }

    async fn become_well(
        &self,
        switch: &Switch<'_>,
        tail: &Tail,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        let deadline = Instant::now() + self.timeout;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut pause = FIRST_PAUSE;
        let mut last: Option<No> = None;
        loop {
            let Err(no) = self.ask(left(), switch, tail, stop).await? else {
                return Ok(());
            };
            tracing::info!("the check does not pass yet: it {no}");
            // One that was cut short says less than the one before it.
            let no = match last.take() {
                Some(last) if no.cut_short => last,
                _ => no,
            };
            if left() < FIRST_PAUSE {
                let limit = humantime::format_duration(self.timeout);
                return Err(self.refuse(no, tail, &format!("did not pass within {limit}")));
            }
            last = Some(no);
            // The run after the pause shall have some time too.
            wait(pause.min(left() / 2), stop).await?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn stay_well(
        &self,
        switch: &Switch<'_>,
        tail: &Tail,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        let end = Instant::now() + self.soak;
        let interval = (self.soak / ASKED_IN_SOAK).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            wait(interval.min(left), stop).await?;
            if let Err(no) = self.ask(self.timeout, switch, tail, stop).await? {
                let after = (Instant::now() + self.soak).saturating_duration_since(end);
                let after = humantime::format_duration(Duration::from_secs(after.as_secs()));
                return Err(self.refuse(no, tail, &format!("passed, and no longer after {after}")));
            }
        }
    }

    /// Runs the script once; returns what it said where that was no.
    async fn ask(
        &self,
        limit: Duration,
        switch: &Switch<'_>,
        tail: &Tail,
        stop: &Stop,
    ) -> Result<Result<(), No>, AgentError> {
        let limit = self.script.timeout.map_or(limit, |own| own.min(limit));
        let end = Instant::now() + limit;
        let result = self
            .script
            .run_within(Some(limit), switch, tail, stop)
            .await;
        let output = tail.take();
        match result {
            Ok(()) => {
                output.iter().for_each(|line| tail.push(line));
                Ok(Ok(()))
            }
            Err(AgentError::Refused {
                outcome, status, ..
            }) => Ok(Err(No {
                outcome,
                status,
                output,
                cut_short: status.is_none() && Instant::now() >= end,
            })),
            Err(error) => Err(error),
        }
    }

    fn refuse(&self, no: No, tail: &Tail, when: &str) -> AgentError {
        no.output.iter().for_each(|line| tail.push(line));
        self.script.refused(format!("{when}: it {no}"), no.status)
    }
}

/// What a run of the check said.
struct No {
    outcome: String,
    status: Option<i32>,
    output: Vec<String>,
    /// Whether its time was over before it said anything.
    cut_short: bool,
}

impl std::fmt::Display for No {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The hint is about a script that nobody waits for; this one is waited for again.
        let outcome = self.outcome.lines().next().unwrap_or_default();
        formatter.write_str(outcome)
    }
}

async fn wait(pause: Duration, stop: &Stop) -> Result<(), AgentError> {
    tokio::select! {
        () = sleep(pause) => Ok(()),
        () = stop.stopped() => Err(AgentError::Interrupted),
    }
}
