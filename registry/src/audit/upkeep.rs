//! Looking after the log: many small objects become few, old ones go. Run by `jobs`.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::lines;
use crate::store::{AuditObject, Store, StoreError};

const MIB: u64 = 1024 * 1024;
/// Objects become as large as this, those of one day at most.
const MERGED_MAX: u64 = MIB;
/// Larger ones stay as they are.
const SMALL: u64 = MERGED_MAX / 2;
/// Younger ones stay as they are, for whoever reads page after page of what just happened.
const SETTLED: SignedDuration = SignedDuration::from_secs(60);

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Objects that became part of others.
    pub(crate) merged: u64,
    /// Objects whose lines were too old.
    pub(crate) removed: u64,
}

/// Removes objects all of whose lines are older than `retention`, and puts small ones together.
/// Two rounds may run at once, and a round may end anywhere: lines may be there twice then, which
/// readers do not see, and the next round mends.
///
/// # Errors
/// Of the store.
pub(crate) async fn keep(store: &Store, retention: Option<Duration>) -> Result<Kept, StoreError> {
    let now = store.now();
    let before = |age| now.checked_sub(age).unwrap_or(Timestamp::MIN);
    let too_old = retention.map(|retention| {
        before(SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX))
    });
    let settled = before(SETTLED);
    let mut kept = Kept::default();
    let mut run = Run::default();
    let mut objects = store.audit_objects(None);
    while let Some(object) = objects.try_next().await? {
        if too_old.is_some_and(|too_old| object.last < too_old) {
            store.remove_audit(&object).await?;
            kept.removed += 1;
        } else if object.last < settled && object.size < SMALL {
            if !run.takes(&object) {
                kept.merged += std::mem::take(&mut run).merge(store).await?;
            }
            run.add(object);
        }
    }
    kept.merged += run.merge(store).await?;
    if kept != Kept::default() {
        store.tidy_audit().await?;
    }
    Ok(kept)
}

/// Objects that become one.
#[derive(Debug, Default)]
struct Run {
    objects: Vec<AuditObject>,
    size: u64,
}

impl Run {
    fn takes(&self, object: &AuditObject) -> bool {
        let day = |time: Timestamp| time.to_zoned(TimeZone::UTC).date();
        let same = |first: &AuditObject| day(first.first) == day(object.first);
        self.objects.first().is_none_or(same) && self.size + object.size <= MERGED_MAX
    }

    fn add(&mut self, object: AuditObject) {
        self.size += object.size;
        self.objects.push(object);
    }

    /// Puts them together, and returns how many they were. What cannot be understood stays as it
    /// is, and so does everything where somebody else is at it.
    async fn merge(self, store: &Store) -> Result<u64, StoreError> {
        if self.objects.len() < 2 {
            return Ok(0);
        }
        let mut sources: Vec<(AuditObject, Bytes)> = Vec::new();
        for object in self.objects {
            match store.read_audit(&object).await? {
                Some(bytes) if lines::places(&bytes).is_ok_and(|lines| !lines.is_empty()) => {
                    sources.push((object, bytes));
                }
                Some(_) => {}
                None => return Ok(0),
            }
        }
        let lines = sources
            .iter()
            .filter_map(|(_, bytes)| lines::places(bytes).ok());
        let mut lines: Vec<_> = lines.flatten().collect();
        lines.sort_unstable();
        lines.dedup_by(|one, other| one.0 == other.0);
        let (Some((first, _)), Some((last, _))) = (lines.first(), lines.last()) else {
            return Ok(0);
        };
        if sources.len() < 2 {
            return Ok(0);
        }
        let (first, last) = (first.time, last.time);
        let mut merged = Vec::with_capacity(usize::try_from(self.size).unwrap_or_default());
        for (_, line) in &lines {
            merged.extend_from_slice(line);
            merged.push(b'\n');
        }
        store.put_audit(first, last, merged.into()).await?;
        for (object, _) in &sources {
            store.remove_audit(object).await?;
        }
        Ok(sources.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    };

    use deploy_spec::audit::{Actor, Entry, Position, action, kind};

    use super::*;
    use crate::{
        audit::{Question, read},
        store::Clock,
    };

    const DAY: i64 = 24 * 60 * 60;

    /// A store whose time a test drives.
    struct World {
        store: Store,
        seconds: Arc<AtomicI64>,
        lines: u64,
    }

    impl World {
        fn new() -> Self {
            let seconds = Arc::new(AtomicI64::new(0));
            let clock = seconds.clone();
            // Midnight.
            let now = move || Timestamp::from_second(20_000 * DAY + clock.load(Relaxed)).unwrap();
            Self {
                store: Store::memory().with_clock(Clock::new(now)),
                seconds,
                lines: 0,
            }
        }

        fn pass(&self, seconds: i64) {
            self.seconds.fetch_add(seconds, Relaxed);
        }

        /// Writes an object of so many lines, a second from one to the next.
        async fn write(&mut self, count: u64) {
            let first = self.store.now();
            let mut bytes = Vec::new();
            for number in 0..count {
                if number > 0 {
                    self.pass(1);
                }
                let (now, id) = (self.store.now(), format!("{:010}", self.lines));
                let entry = Entry::new(now, id, action::LOGIN, Actor::unnamed(kind::USER));
                lines::write(&entry, &mut bytes);
                self.lines += 1;
            }
            let last = self.store.now();
            let put = self.store.put_audit(first, last, bytes.into());
            put.await.unwrap();
        }

        async fn objects(&self) -> Vec<AuditObject> {
            self.store.audit_objects(None).try_collect().await.unwrap()
        }

        /// Returns the numbers of all lines, read in pages.
        async fn read(&self, limit: usize) -> Vec<u64> {
            let (mut numbers, mut after) = (Vec::new(), None);
            loop {
                let question = Question {
                    after,
                    limit,
                    ..Question::default()
                };
                let answer = read(&self.store, &question).await.unwrap();
                assert!(answer.entries.len() <= limit);
                let ids = answer.entries.iter().map(|entry| entry.id.parse::<u64>());
                numbers.extend(ids.map(Result::unwrap));
                after = answer.next;
                if after.is_none() {
                    return numbers;
                }
            }
        }
    }

    #[tokio::test]
    async fn small_objects_of_a_day_become_one_and_old_ones_go() {
        let mut world = World::new();
        for _ in 0..3 {
            for _ in 0..20 {
                world.write(3).await;
                world.pass(60);
            }
            world.pass(DAY - 20 * 62);
        }
        world.write(1).await;
        let all: Vec<u64> = (0..world.lines).collect();
        assert_eq!(world.read(7).await, all);
        let kept = keep(&world.store, None).await.unwrap();
        assert_eq!((kept.merged, kept.removed), (60, 0));
        // What is young stays.
        assert_eq!(world.objects().await.len(), 4);
        assert_eq!(world.read(7).await, all);
        assert_eq!(keep(&world.store, None).await.unwrap(), Kept::default());
        let two_days = Some(Duration::from_secs(2 * 24 * 60 * 60));
        let kept = keep(&world.store, two_days).await.unwrap();
        assert_eq!((kept.merged, kept.removed), (0, 1));
        assert_eq!(world.read(1000).await, all[60..]);
    }

    #[tokio::test]
    async fn a_round_that_broke_off_leaves_lines_that_nobody_sees_twice() {
        let mut world = World::new();
        for _ in 0..5 {
            world.write(2).await;
        }
        let all: Vec<u64> = (0..10).collect();
        let mut merged = Vec::new();
        for object in world.objects().await {
            merged.extend(world.store.read_audit(&object).await.unwrap().unwrap());
        }
        let objects = world.objects().await;
        let (first, last) = (objects[0].first, objects[4].last);
        let put = world.store.put_audit(first, last, merged.into());
        put.await.unwrap();
        for limit in [1, 2, 3, 100] {
            assert_eq!(world.read(limit).await, all);
        }
        world.pass(3600);
        assert_eq!(keep(&world.store, None).await.unwrap().merged, 6);
        assert_eq!(world.objects().await.len(), 1);
        assert_eq!(world.read(3).await, all);
    }

    #[tokio::test]
    async fn what_cannot_be_understood_is_passed_over_and_stays() {
        let mut world = World::new();
        world.write(2).await;
        let now = world.store.now();
        for bytes in [&b"{\"time\":\"2026-01-"[..], b"\n\n", &[0xff; 10]] {
            let put = world
                .store
                .put_audit(now, now, Bytes::copy_from_slice(bytes));
            put.await.unwrap();
        }
        world.pass(1);
        world.write(2).await;
        world.pass(3600);
        assert_eq!(world.read(10).await, [0, 1, 2, 3]);
        assert_eq!(keep(&world.store, None).await.unwrap().merged, 2);
        assert_eq!(world.objects().await.len(), 4);
        assert_eq!(world.read(10).await, [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn questions_are_answered_by_time_and_place() {
        let mut world = World::new();
        world.write(10).await;
        world.pass(DAY);
        world.write(10).await;
        let at = |second: i64| Timestamp::from_second(20_000 * DAY + second).unwrap();
        let ids = |answer: super::super::reader::Answer| {
            let ids = answer.entries.iter().map(|entry| entry.id.parse().unwrap());
            ids.collect::<Vec<u64>>()
        };
        let question = |since, until| Question {
            since: Some(at(since)),
            until: Some(at(until)),
            limit: 100,
            ..Question::default()
        };
        let rows = [
            (0, 0, vec![0]),
            (8, 2 * DAY, (8..20).collect()),
            (9, DAY + 9, vec![9, 10]),
            (10, DAY + 8, vec![]),
            (DAY + 18, 2 * DAY, vec![19]),
        ];
        for (since, until, expected) in rows {
            let answer = read(&world.store, &question(since, until)).await.unwrap();
            assert_eq!(ids(answer), expected, "{since} {until}");
        }
        let elsewhere = Question {
            repository: Some("a".parse().unwrap()),
            ..question(0, 2 * DAY)
        };
        assert_eq!(ids(read(&world.store, &elsewhere).await.unwrap()), [0; 0]);
        let behind = Question {
            after: Some(Position {
                time: at(5),
                id: "0000000005".to_owned(),
            }),
            ..question(0, 20)
        };
        assert_eq!(
            ids(read(&world.store, &behind).await.unwrap()),
            [6, 7, 8, 9]
        );
    }
}
