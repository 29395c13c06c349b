//! When to try again and when to give up: the one place that knows. Used by every request.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use tokio::time::{Instant, timeout_at};

/// How patient a client is.
///
/// A request is tried again when the connection fails or the registry answers 408, 429, 500,
/// 502, 503 or 504. Delays double from the first to the longest, each drawn at random between
/// half of it and the whole. `Retry-After` is obeyed: no request is sent before its time; where
/// that is further away than is waited for, the refusal is returned, and tells it. Transfers count
/// anew whenever they have got further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a request is sent at most.
    pub attempts: u32,
    /// The delay before the second attempt.
    pub first_delay: Duration,
    /// The longest delay.
    pub longest_delay: Duration,
    /// The longest that is waited because a registry says so (`Retry-After`).
    pub longest_told: Duration,
    /// How long nothing may move, in either direction. There is no limit on total time.
    pub progress_timeout: Duration,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_delay: Duration::from_millis(200),
            longest_delay: Duration::from_secs(5),
            longest_told: Duration::from_secs(60),
            progress_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// Returns how long to wait before attempt number `failed + 1`, `failed` counted from 1.
    pub fn delay(&self, failed: u32) -> Duration {
        let doubled = self
            .first_delay
            .saturating_mul(1 << failed.saturating_sub(1).min(16));
        doubled
            .min(self.longest_delay)
            .mul_f64(rand::random_range(0.5..=1.0))
    }

    /// As [`RetryPolicy::delay`], where a registry may have said how long to wait; nothing where
    /// that is longer than is waited for.
    pub(super) fn delay_after(&self, failed: u32, told: Option<Duration>) -> Option<Duration> {
        match told {
            Some(told) if told > self.longest_told => None,
            // Everybody is told the same time: spread a little.
            Some(told) => Some(told.mul_f64(rand::random_range(1.0..=1.1))),
            None => Some(self.delay(failed)),
        }
    }
}

/// True for an answer that another attempt may better.
pub(super) fn is_retryable(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            let seconds = date.as_second() - jiff::Timestamp::now().as_second();
            u64::try_from(seconds).unwrap_or(0)
        }
    };
    Some(Duration::from_secs(seconds))
}

/// When something last moved. Cheap to clone, touched by the body while it streams.
#[derive(Clone)]
pub(super) struct Activity {
    start: Instant,
    milliseconds: Arc<AtomicU64>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            milliseconds: Arc::default(),
        }
    }

    pub(super) fn touch(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.milliseconds.store(elapsed, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.milliseconds.load(Ordering::Relaxed))
    }

    /// Returns what the future returns; nothing once there was no activity for `limit`.
    pub(super) async fn watch<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        self.touch();
        let mut future = std::pin::pin!(future);
        loop {
            let deadline = self.last() + limit;
            match timeout_at(deadline, &mut future).await {
                Ok(output) => return Some(output),
                Err(_) if self.last() + limit > deadline => {}
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_stay_within_their_bounds() {
        let policy = RetryPolicy::default();
        for (failed, longest) in [(1, 200), (2, 400), (3, 800), (6, 5000), (99, 5000)] {
            let delay = policy.delay(failed);
            let longest = Duration::from_millis(longest);
            assert!(
                delay <= longest && delay >= longest / 2,
                "{failed}: {delay:?}"
            );
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_waited_for_within_bounds() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("3"), Some(Duration::from_secs(3)));
        assert_eq!(read("9999999"), Some(Duration::from_secs(9_999_999)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay_after(1, read("61")), None);
        let told = policy.delay_after(1, read("60")).unwrap();
        assert!(told >= Duration::from_secs(60) && told <= Duration::from_secs(66));
        assert!(policy.delay_after(1, None).unwrap() <= policy.first_delay);
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_is_given_up_only_after_silence() {
        let limit = Duration::from_secs(1);
        let activity = Activity::new();
        let toucher = activity.clone();
        let busy = async move {
            for _ in 0..10 {
                tokio::time::sleep(limit / 2).await;
                toucher.touch();
            }
            "done"
        };
        assert_eq!(activity.watch(limit, busy).await, Some("done"));
        assert_eq!(
            activity.watch(limit, std::future::pending::<()>()).await,
            None
        );
    }
}
