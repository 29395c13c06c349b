//! Tokens that were read before: a signature takes longer to verify than most requests to answer, and
//! clients send the same token with many of them. Used by `tokens`.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use jiff::Timestamp;

/// As many are remembered at once, of up to so many bytes: 8 MiB in all.
const TOKENS_MAX: usize = 1024;
const BYTES_MAX: usize = 8 << 10;

/// What tokens say, by their very text, until they expire.
#[derive(Debug)]
pub(super) struct Seen<T>(RwLock<HashMap<Box<str>, Entry<T>>>);

#[derive(Debug)]
struct Entry<T> {
    says: Arc<T>,
    expires: Timestamp,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> Seen<T> {
    /// Returns what a token says that was seen before and has not expired.
    pub(super) fn get(&self, token: &str, now: Timestamp) -> Option<Arc<T>> {
        let seen = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let entry = seen.get(token).filter(|entry| now < entry.expires)?;
        Some(Arc::clone(&entry.says))
    }

    /// Remembers what a token says whose signature is good.
    pub(super) fn add(&self, token: &str, says: Arc<T>, expires: Timestamp, now: Timestamp) {
        if token.len() > BYTES_MAX {
            return;
        }
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= TOKENS_MAX {
            seen.retain(|_, entry| now < entry.expires);
        }
        if seen.len() >= TOKENS_MAX {
            // Any of them: it is verified once more.
            let any = seen.keys().next().cloned();
            any.and_then(|any| seen.remove(&any));
        }
        seen.insert(token.into(), Entry { says, expires });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_remembered_until_they_expire_and_not_without_end() {
        let seen = Seen::default();
        let now = Timestamp::UNIX_EPOCH;
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let add = |token: &str, number: i64, now| {
            seen.add(token, Arc::new(number), at(10 + number), now);
        };
        add("a", 0, now);
        assert_eq!(seen.get("a", at(9)).as_deref(), Some(&0));
        assert_eq!(seen.get("a", at(10)), None);
        assert_eq!(seen.get("b", now), None);
        add(&"x".repeat(BYTES_MAX + 1), 0, now);
        assert_eq!(seen.0.read().unwrap().len(), 1);
        for number in 0..3000 {
            add(&number.to_string(), number, now);
            let found = seen.get(&number.to_string(), now);
            assert_eq!(found.as_deref(), Some(&number));
        }
        assert_eq!(seen.0.read().unwrap().len(), TOKENS_MAX);
        add("last", 9000, at(8000));
        assert_eq!(seen.0.read().unwrap().len(), 1);
    }
}
