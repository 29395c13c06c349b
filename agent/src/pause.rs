//! How long the agent waits: between polls and after failures, never the same for two hosts.
//! Asked by `runner`.

use std::time::Duration;

use crate::machine::Pause;

/// The first pause after a failure is never shorter, whatever the poll interval.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);
/// Nor longer.
const LONGEST_FIRST_RETRY: Duration = Duration::from_secs(30);
/// Failures double it up to here.
const LONGEST_RETRY: Duration = Duration::from_secs(10 * 60);
/// How far a silent registry is left alone.
const LONGEST_LOOK: Duration = Duration::from_secs(60);
/// How far a registry that says when to come back (`Retry-After`) is left alone at its word.
const LONGEST_TOLD: Duration = Duration::from_secs(10 * 60);
/// Within which the first look comes: hosts that were switched on together do not ask together.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How much later than its interval a poll may come.
const POLL_JITTER: f64 = 0.1;

/// The pauses of one agent.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    poll: Duration,
}

impl Pauses {
    /// Returns the pauses of an agent that polls in this interval.
    pub fn new(poll: Duration) -> Self {
        Self { poll }
    }

    /// Returns how long to wait before a look at the channel: an interval and up to a tenth of
    /// it, so that hosts that were started together do not stay together; after failures
    /// doubling from a second to a minute, whatever the interval.
    pub(crate) fn before_look(&self, pause: Pause) -> Duration {
        match pause {
            Pause::None => Duration::ZERO,
            Pause::Poll => self.poll.mul_f64(1.0 + POLL_JITTER * rand::random::<f64>()),
            Pause::Backoff(failures) => jittered(doubled(SHORTEST_RETRY, failures, LONGEST_LOOK)),
        }
    }

    /// Returns how long to wait before the first look of all.
    pub(crate) fn before_first_look(&self) -> Duration {
        FIRST_LOOK.mul_f64(rand::random())
    }

    /// Returns the pause, made at least as long as the registry wants to be left alone, up to ten
    /// minutes and a tenth: everybody is told the same time.
    pub(crate) fn at_least(&self, told: Option<Duration>, pause: Duration) -> Duration {
        let told = told.unwrap_or_default().min(LONGEST_TOLD);
        pause.max(told.mul_f64(1.0 + POLL_JITTER * rand::random::<f64>()))
    }

    /// Returns how long to wait before a failed release is tried again: doubling from the poll
    /// interval (but at least a second, at most half a minute) to ten minutes, each pause
    /// drawn between half of that and the whole.
    pub(crate) fn before_retry(&self, failures: u32) -> Duration {
        jittered(doubled(
            self.poll.clamp(SHORTEST_RETRY, LONGEST_FIRST_RETRY),
            failures,
            LONGEST_RETRY,
        ))
    }
}

fn doubled(first: Duration, failures: u32, longest: Duration) -> Duration {
    first
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(longest)
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limits() {
        let seconds = Duration::from_secs;
        let table = [
            // Poll interval, failures, the longest that the pause may be.
            (seconds(30), 1, seconds(30)),
            (seconds(30), 2, seconds(60)),
            (seconds(30), 16, seconds(600)),
            (Duration::from_millis(50), 1, seconds(1)),
            (Duration::from_millis(50), 4, seconds(8)),
            (seconds(3600), 1, seconds(30)),
        ];
        for (poll, failures, longest) in table {
            for _ in 0..100 {
                let pause = Pauses::new(poll).before_retry(failures);
                assert!(
                    pause <= longest && pause >= longest / 2,
                    "{poll:?} {failures}: {pause:?}"
                );
            }
        }
        let poll = Pauses::new(seconds(10)).before_look(Pause::Poll);
        assert!(poll >= seconds(10) && poll <= seconds(11), "{poll:?}");
        assert_eq!(
            Pauses::new(seconds(10)).before_look(Pause::None),
            Duration::ZERO
        );
        assert!(Pauses::new(seconds(10)).before_look(Pause::Backoff(99)) <= LONGEST_LOOK);
    }

    #[test]
    fn a_registry_is_left_alone_as_long_as_it_says_and_no_longer_than_is_sane() {
        let (seconds, pauses) = (Duration::from_secs, Pauses::new(Duration::from_secs(30)));
        for _ in 0..100 {
            assert_eq!(pauses.at_least(None, seconds(3)), seconds(3));
            assert_eq!(pauses.at_least(Some(seconds(2)), seconds(3)), seconds(3));
            let told = pauses.at_least(Some(seconds(100)), seconds(3));
            assert!(told >= seconds(100) && told <= seconds(110), "{told:?}");
            // As a date reads when this host's clock was set back by years.
            let told = pauses.at_least(Some(seconds(1 << 30)), seconds(3));
            assert!(told >= seconds(600) && told <= seconds(660), "{told:?}");
            assert!(pauses.before_first_look() <= seconds(1));
        }
    }
}
