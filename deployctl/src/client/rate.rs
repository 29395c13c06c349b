//! How fast bytes may come: one allowance for everything that comes from a registry at the same
//! time. Used by `transport`.

use std::{
    num::NonZeroU64,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Bytes for a second, shared by all who take of them.
#[derive(Debug)]
pub(super) struct Rate {
    bytes_a_second: NonZeroU64,
    /// When what was taken so far is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Rate {
    pub(super) fn new(bytes_a_second: NonZeroU64) -> Self {
        Self {
            bytes_a_second,
            paid: Mutex::default(),
        }
    }

    /// Returns when so many bytes, which have come, may have come. What is not read meanwhile is
    /// not sent: the connection's window is full.
    pub(super) async fn pay(&self, bytes: usize) {
        let cost = bytes as f64 / self.bytes_a_second.get() as f64;
        let until = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            // Time in which nothing came is not saved up.
            let from = paid.unwrap_or(now).max(now);
            *paid.insert(from + Duration::from_secs_f64(cost))
        };
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_take_share_one_allowance_and_nothing_is_saved_up() {
        let rate = Rate::new(NonZeroU64::new(1000).unwrap());
        let start = Instant::now();
        tokio::join!(rate.pay(1500), rate.pay(500), rate.pay(1000));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        rate.pay(2000).await;
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        rate.pay(0).await;
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }
}
