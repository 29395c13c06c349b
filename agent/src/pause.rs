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
}
