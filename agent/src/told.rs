//! The signals that a person sends to the program. Listened to by `follow`, and by `main` for the
//! verbs.

use anyhow::{Context, Result};
use deploy_agent::{Signal, Signals, Stop};
use tokio::signal::unix::{self, SignalKind};

/// SIGTERM and SIGINT end the agent, SIGHUP has it look for what it is asked for.
pub(crate) struct Told {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hang_up: unix::Signal,
    /// Ends it too, once.
    ended: Option<Stop>,
}

impl Told {
    /// Listens from now on; all who listen hear everything.
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| unix::signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            ended: None,
        })
    }

    /// Hears of `stop` as of a first signal to end.
    pub(crate) fn or(self, stop: Stop) -> Self {
        Self {
            ended: Some(stop),
            ..self
        }
    }
}

impl Signals for Told {
    async fn next(&mut self) -> Signal {
        let ended = async {
            match &self.ended {
                Some(stop) => stop.stopped().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
            _ = self.hang_up.recv() => Signal::Look,
            () = ended => {
                self.ended = None;
                Signal::End
            }
        }
    }
}
