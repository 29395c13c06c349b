//! An agent that goes on until it is told to end, and waiting for what it does.

use std::time::Duration;

use super::{host::Host, *};
use crate::{
    machine::{Exit, Mode, OnFailure},
    pause::Pauses,
    runner::{Runner, Signal, Signals},
};

/// Whoever holds the other end signals.
struct Told(tokio::sync::mpsc::Receiver<Signal>);

impl Signals for Told {
    async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

/// An agent that goes on until it is told to end.
pub(super) struct Following {
    tell: tokio::sync::mpsc::Sender<Signal>,
    running: tokio::task::JoinHandle<Exit>,
}

impl Following {
    /// Signals to it, and returns when the signal is on its way.
    pub(super) async fn tell(&self, signal: Signal) {
        self.tell.send(signal).await.unwrap();
    }

    /// Has it end, and returns how it did.
    pub(super) async fn end(self) -> Exit {
        self.tell(Signal::End).await;
        self.running.await.unwrap()
    }
}

/// Waits until `holds` is true of files that other processes write.
///
/// # Panics
/// When it is not within a minute; `what` says in the message what was waited for.
pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(60);
    let looked = tokio::time::timeout(limit, looking).await;
    assert!(looked.is_ok(), "waited {limit:?} in vain for: {what}");
}

impl Host {
    /// Starts an agent that follows the channel.
    pub(super) fn follow(&self, on_failure: OnFailure) -> Following {
        let (tell, told) = tokio::sync::mpsc::channel(1);
        let runner = Runner::new(
            Arc::clone(&self.source),
            Arc::new(self.deployer()),
            Mode::Follow,
            on_failure,
            Pauses::new(Duration::from_millis(20)),
        );
        let running = tokio::spawn(runner.run(Told(told)));
        Following { tell, running }
    }
}
