//! Who guesses: logins that failed, by client and by whom they were for. A client that fails often
//! waits for its answers, and then is not listened to for a while. Asked by the token endpoint.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::limits::identity;

/// A failure is forgotten after so long, one after the other: what a client that goes on has for
/// each guess.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// As many failures cost nothing: people mistype, and some clients ask in two ways.
const FREE: u64 = 4;
/// As many failures are answered at all.
const ANSWERED: u64 = 12;
/// How much longer each answer takes than the one before.
const STEP: Duration = Duration::from_millis(100);
/// As many clients are told apart, and as many pairs of them and names: about 4 MiB in all.
const TOLD_APART: usize = 65_536;

/// What becomes of a client that failed, or tries once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is answered, and after so long where it failed.
    Answered(Duration),
    /// It is not listened to for so long.
    Refused(Duration),
}

/// Counts failures, each client's for itself.
#[derive(Debug)]
pub(crate) struct Guesses {
    start: Instant,
    hasher: RandomState,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    clients: Until,
    /// Of a client and whom its failures were for.
    pairs: Until,
}

/// Until when failures are remembered, in nanoseconds: one number, however many there are.
#[derive(Debug, Default)]
struct Until {
    failures: HashMap<u64, u64>,
    /// When it was last looked for what can be forgotten: that takes a while.
    swept: u64,
}

impl Guesses {
    /// Returns what has counted nothing.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            hasher: RandomState::new(),
            failures: Mutex::default(),
        }
    }

    /// Returns what becomes of a client that tries now.
    pub(crate) fn verdict(&self, client: IpAddr, now: Instant) -> Verdict {
        let (client, _) = self.keys(client, "");
        let now = self.elapsed(now);
        let failures = self.failures();
        verdict(failures.clients.left(client, now))
    }

    /// Counts a failure of this client, and returns what becomes of it. `name` is whom it was for;
    /// nothing where it was no guess at anybody's secret. Those of a client that is not listened to do
    /// not make that any longer.
    pub(crate) fn failed(&self, client: IpAddr, name: &str, now: Instant) -> Verdict {
        let (client, pair) = self.keys(client, name);
        let now = self.elapsed(now);
        let mut failures = self.failures();
        let verdict = verdict(failures.clients.left(client, now));
        if matches!(verdict, Verdict::Answered(_)) {
            failures.pairs.add(pair, now);
            failures.clients.add(client, now);
        }
        verdict
    }

    /// Forgets failures of this client that were for the same name, and those that were for nobody:
    /// whoever knows one password cannot guess another one the longer for it.
    pub(crate) fn succeeded(&self, client: IpAddr, name: &str, now: Instant) {
        let (key, pair) = self.keys(client, name);
        let (_, nobody) = self.keys(client, "");
        let now = self.elapsed(now);
        let mut failures = self.failures();
        let mut forgiven = failures.pairs.remove(pair, now);
        if pair != nobody {
            forgiven += failures.pairs.remove(nobody, now);
        }
        failures.clients.reduce(key, forgiven, now);
    }

    fn keys(&self, client: IpAddr, name: &str) -> (u64, u64) {
        let client = identity(client);
        (client, self.hasher.hash_one((client, name)))
    }

    fn elapsed(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.start))
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `left` is how long it takes until all failures are forgotten.
fn verdict(left: u64) -> Verdict {
    let failures = left.div_ceil(nanoseconds(FORGOTTEN));
    match failures {
        ..FREE => Verdict::Answered(Duration::ZERO),
        FREE..ANSWERED => {
            let steps = u32::try_from(failures - FREE + 1).expect("there are few");
            Verdict::Answered(STEP * steps)
        }
        ANSWERED.. => {
            let again = left - nanoseconds(FORGOTTEN) * (ANSWERED - 1);
            Verdict::Refused(Duration::from_nanos(again))
        }
    }
}

impl Until {
    fn left(&self, key: u64, now: u64) -> u64 {
        self.failures
            .get(&key)
            .map_or(0, |until| until.saturating_sub(now))
    }

    /// Where all are remembered, one of them gets off lightly.
    fn add(&mut self, key: u64, now: u64) {
        if self.failures.len() >= TOLD_APART && !self.failures.contains_key(&key) {
            if now >= self.swept + nanoseconds(FORGOTTEN) {
                self.swept = now;
                self.failures.retain(|_, until| *until > now);
            }
            let any = self.failures.keys().next().copied();
            if let Some(any) = any.filter(|_| self.failures.len() >= TOLD_APART) {
                self.failures.remove(&any);
            }
        }
        let until = self.failures.entry(key).or_default();
        *until = (*until).max(now) + nanoseconds(FORGOTTEN);
    }

    fn remove(&mut self, key: u64, now: u64) -> u64 {
        let left = self.left(key, now);
        self.failures.remove(&key);
        left
    }

    fn reduce(&mut self, key: u64, by: u64, now: u64) {
        if let Some(until) = self.failures.get_mut(&key) {
            *until = until.saturating_sub(by);
            if *until <= now {
                self.failures.remove(&key);
            }
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn fail(guesses: &Guesses, name: &str, times: u64, now: Instant) -> Vec<Verdict> {
        (0..times).map(|_| guesses.failed(ONE, name, now)).collect()
    }

    #[test]
    fn who_fails_often_waits_and_then_is_not_listened_to() {
        let now = Instant::now();
        let guesses = Guesses::new(now);
        let steps = |steps: u32| Verdict::Answered(STEP * steps);
        let expected = [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].map(steps);
        assert_eq!(fail(&guesses, "jane", ANSWERED, now), expected);
        let refused = vec![Verdict::Refused(FORGOTTEN); 3];
        assert_eq!(fail(&guesses, "jane", 3, now), refused);
        // Others are not held up by it.
        let other = "2001:db8::1".parse().unwrap();
        assert_eq!(guesses.verdict(other, now), steps(0));
        // One guess for each time that is forgotten.
        let later = now + FORGOTTEN;
        assert_eq!(guesses.verdict(ONE, later), steps(8));
        fail(&guesses, "jane", 1, later);
        assert_eq!(guesses.verdict(ONE, later), Verdict::Refused(FORGOTTEN));
        let rested = now + 20 * FORGOTTEN;
        assert_eq!(guesses.verdict(ONE, rested), steps(0));
    }

    #[test]
    fn who_gets_in_is_forgiven_what_was_his_own() {
        let now = Instant::now();
        let guesses = Guesses::new(now);
        let is_free = || guesses.verdict(ONE, now) == Verdict::Answered(Duration::ZERO);
        fail(&guesses, "jane", 6, now);
        fail(&guesses, "", 6, now);
        assert!(!is_free());
        guesses.succeeded(ONE, "jane", now);
        assert!(is_free());
        assert!(guesses.failures().clients.failures.is_empty());
        // Whoever has a password of his own guesses no longer at those of others.
        for _ in 0..ANSWERED {
            fail(&guesses, "joe", 1, now);
            guesses.succeeded(ONE, "jane", now);
        }
        assert_eq!(guesses.verdict(ONE, now), Verdict::Refused(FORGOTTEN));
        guesses.succeeded(ONE, "", now);
        assert!(!is_free());
        guesses.succeeded(ONE, "joe", now);
        assert!(is_free());
    }

    #[test]
    fn memory_is_bounded_whoever_comes() {
        let now = Instant::now();
        let guesses = Guesses::new(now);
        for number in 0..70_000 {
            let client = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            guesses.failed(client, "jane", now);
        }
        let told_apart = || {
            let failures = guesses.failures();
            (
                failures.clients.failures.len(),
                failures.pairs.failures.len(),
            )
        };
        assert_eq!(told_apart(), (TOLD_APART, TOLD_APART));
        guesses.failed("2001:db8::1".parse().unwrap(), "jane", now + 2 * FORGOTTEN);
        assert_eq!(told_apart(), (1, 1));
    }
}
