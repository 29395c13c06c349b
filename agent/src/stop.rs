//! Tells whatever is being done to end. Made by `runner`, looked at by every step.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

/// A wish to end, once uttered never taken back. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            flag: Arc::default(),
            sender: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl Stop {
    /// Utters it.
    pub fn stop(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.sender.send_replace(true);
    }

    /// Utters it once `other` is uttered; never returns.
    pub async fn follow<T>(&self, other: &Self) -> T {
        other.stopped().await;
        self.stop();
        std::future::pending().await
    }

    /// Whether it has been uttered.
    pub fn is_stopped(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Returns the flag for code that blocks.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// Returns once it has been uttered.
    pub async fn stopped(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives as long as this does.
        receiver.wait_for(|stopped| *stopped).await.ok();
    }
}
