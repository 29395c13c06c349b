//! Numbers that many tasks count at once: no locks, no allocation. Counted by `http`, `store`
//! and `jobs`; read by `metrics`.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many there are at the moment.
#[derive(Debug, Default)]
pub(crate) struct Level(AtomicU64);

impl Level {
    /// Counts one until the guard is dropped.
    pub(crate) fn enter(&self) -> Entered<'_> {
        self.0.fetch_add(1, Relaxed);
        Entered(self)
    }

    pub(crate) fn set(&self, number: u64) {
        self.0.store(number, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One that is counted by a [`Level`].
#[derive(Debug)]
pub(crate) struct Entered<'a>(&'a Level);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

const fn micros(micros: u64) -> u64 {
    micros * 1000
}

const fn millis(millis: u64) -> u64 {
    micros(millis * 1000)
}

/// Upper bounds of the classes that durations fall into, in nanoseconds: from what memory takes
/// to what a long poll does.
const BOUNDS: [u64; 20] = [
    micros(50),
    micros(100),
    micros(250),
    micros(500),
    millis(1),
    micros(2500),
    millis(5),
    millis(10),
    millis(25),
    millis(50),
    millis(100),
    millis(250),
    millis(500),
    millis(1000),
    millis(2500),
    millis(5000),
    millis(10_000),
    millis(30_000),
    millis(60_000),
    millis(300_000),
];

/// How long something took, by classes.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// Each class alone; the last one is for what is longer than all bounds.
    classes: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// What a [`Latency`] holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Durations {
    /// Sum of all, in seconds.
    pub(crate) sum: f64,
    pub(crate) count: u64,
    /// Upper bound of each class in seconds, the last one infinite, and how many are in it alone.
    pub(crate) classes: Vec<(f64, u64)>,
}

impl Latency {
    pub(crate) fn observe(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let class = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        self.classes[class].fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    pub(crate) fn read(&self) -> Durations {
        let bounds = BOUNDS
            .iter()
            .map(|bound| Duration::from_nanos(*bound).as_secs_f64())
            .chain([f64::INFINITY]);
        let counts = self.classes.iter().map(|class| class.load(Relaxed));
        let classes: Vec<_> = bounds.zip(counts).collect();
        Durations {
            sum: Duration::from_nanos(self.nanoseconds.load(Relaxed)).as_secs_f64(),
            // Summed up from the same reading, so that it fits the classes.
            count: classes.iter().map(|(_, count)| count).sum(),
            classes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_grow() {
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn durations_fall_into_the_class_whose_bound_they_do_not_exceed() {
        let latency = Latency::default();
        for nanoseconds in [0, BOUNDS[0], BOUNDS[0] + 1, BOUNDS[19], BOUNDS[19] + 1] {
            latency.observe(Duration::from_nanos(nanoseconds));
        }
        let read = latency.read();
        let filled: Vec<_> = (read.classes.iter())
            .filter(|(_, count)| *count > 0)
            .copied()
            .collect();
        assert_eq!(
            filled,
            [(0.000_05, 2), (0.0001, 1), (300.0, 1), (f64::INFINITY, 1)]
        );
        assert_eq!(read.count, 5);
    }

    #[test]
    fn levels_fall_when_guards_go() {
        let level = Level::default();
        let one = level.enter();
        let other = level.enter();
        assert_eq!(level.get(), 2);
        drop(one);
        drop(other);
        assert_eq!(level.get(), 0);
    }
}
