//! Whose turn it is: of all replicas over one store, and over restarts, one begins a round of
//! upkeep in each interval. Used by `jobs`. That two begin one at the same time does no harm, but
//! is work for nothing.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Store, error::StoreError, keys, objects::Created, record};

#[derive(Debug, Serialize, Deserialize)]
struct Turn {
    /// When the last round began.
    began: Timestamp,
}

impl Store {
    /// Returns whether a round of this kind should begin now: none has for `interval`, and
    /// nobody else begins one at this moment.
    ///
    /// # Errors
    /// Of the store.
    pub(crate) async fn take_turn(
        &self,
        kind: &'static str,
        interval: Duration,
    ) -> Result<bool, StoreError> {
        let (key, now) = (keys::upkeep(kind), self.now());
        let payload = record::encode(&Turn { began: now }, []);
        let Some(object) = self.objects().read(&key).await? else {
            return Ok(self.objects().create_own(&key, payload).await? == Created::New);
        };
        let interval = SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX);
        let began = record::decode::<Turn>(&key, &object.bytes).map(|(turn, _)| turn.began);
        match began {
            // One that lies far ahead is a clock's mistake.
            Ok(began) if now.duration_since(began).abs() < interval => Ok(false),
            _ => self.objects().update(&key, payload, object.version).await,
        }
    }

    /// Writes down that a round of this kind begins now, whosever turn it is.
    pub(crate) async fn note_turn(&self, kind: &'static str) -> Result<(), StoreError> {
        let payload = record::encode(&Turn { began: self.now() }, []);
        self.objects().replace(&keys::upkeep(kind), payload).await
    }
}
