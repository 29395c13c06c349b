//! How fast upkeep goes: a bounded rate of requests or bytes, so that those who push and pull
//! do not feel it, and a place where it stops. Used by `collect` and `scrub`.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::store::error::StoreError;

/// A bounded rate. Whoever does something takes turns first.
#[derive(Debug)]
pub struct Pace {
    /// Time that one turn takes up; nothing where there is no bound.
    step: Option<Duration>,
    /// When the next turn begins.
    next: Mutex<Instant>,
    stop: Option<watch::Receiver<bool>>,
}

/// A change takes as many turns as so many requests that read: it is up to three writes, each to
/// stable storage, where those who push wait for theirs.
const CHANGE: u32 = 10;
/// Turns that were not taken in time may be made up for, so long back: timers are coarse.
const BURST: Duration = Duration::from_millis(20);

impl Pace {
    /// Returns a pace of so many turns a second; without a bound for 0.
    pub fn per_second(turns: u64) -> Self {
        let step = (turns > 0).then(|| Duration::from_secs(1).div_f64(turns as f64));
        Self {
            step,
            next: Mutex::new(Instant::now()),
            stop: None,
        }
    }

    /// Returns a pace without a bound.
    pub fn unbounded() -> Self {
        Self::per_second(0)
    }

    /// Returns the pace, which gives no more turns once `stop` turns true.
    #[must_use]
    pub fn until(mut self, stop: watch::Receiver<bool>) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Waits for the turn of a request that reads.
    ///
    /// # Errors
    /// As [`Pace::turns`].
    pub(crate) async fn read(&self) -> Result<(), StoreError> {
        self.turns(1).await
    }

    /// Waits for the turns of a request that changes something.
    ///
    /// # Errors
    /// As [`Pace::turns`].
    pub(crate) async fn change(&self) -> Result<(), StoreError> {
        self.turns(CHANGE).await
    }

    /// Waits for so many turns in a row.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] where there are no more. What has begun should be finished.
    pub(crate) async fn turns(&self, turns: u32) -> Result<(), StoreError> {
        if self.is_stopped() {
            return Err(StoreError::Stopped);
        }
        let Some(step) = self.step else {
            return Ok(());
        };
        let begin = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let earliest = Instant::now()
                .checked_sub(BURST)
                .unwrap_or_else(Instant::now);
            let begin = (*next).max(earliest);
            *next = begin + step * turns;
            begin
        };
        match &self.stop {
            None => tokio::time::sleep_until(begin).await,
            Some(stop) => {
                let mut stop = stop.clone();
                tokio::select! {
                    () = tokio::time::sleep_until(begin) => {}
                    // Without a sender, nobody stops us any more.
                    Ok(_) = stop.wait_for(|stop| *stop) => return Err(StoreError::Stopped),
                }
            }
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| *stop.borrow())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_taken_at_the_bounded_rate_until_stopped() {
        let (stop, stopped) = watch::channel(false);
        let pace = Pace::per_second(100).until(stopped);
        let start = Instant::now();
        for _ in 0..50 {
            pace.turns(2).await.unwrap();
        }
        let took = start.elapsed();
        assert!(took > Duration::from_millis(900) && took < Duration::from_millis(1100));
        let start = Instant::now();
        for _ in 0..10 {
            pace.change().await.unwrap();
        }
        let took = start.elapsed();
        assert!(took > Duration::from_millis(900) && took < Duration::from_millis(1100));
        stop.send_replace(true);
        assert!(matches!(pace.turns(1).await, Err(StoreError::Stopped)));
    }
}
