//! Which nonces were used: each is good for one login, whichever process it is shown to.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use crate::store::{Store, StoreError};

/// Nonces that are remembered at the most; more people do not log in within a minute.
const REMEMBERED: usize = 100_000;

/// Where it is noted that a nonce was used.
#[derive(Debug)]
pub enum UsedNonces {
    /// In the store: it is used for all processes that serve it, now and after a restart.
    Kept(Store),
    /// In this process alone, where nothing may be written.
    Remembered(Mutex<HashMap<String, Timestamp>>),
}

impl UsedNonces {
    /// Returns what notes them in this store, or only remembers them where nothing may be written.
    pub fn of(store: &Store, read_only: bool) -> Self {
        match read_only {
            true => Self::Remembered(Mutex::default()),
            false => Self::Kept(store.clone()),
        }
    }

    /// Takes note that a nonce is used which is good until `expires`, and returns whether it was not
    /// before: true for one caller of any number at most.
    ///
    /// # Errors
    /// Of the store.
    pub(super) async fn first(
        &self,
        nonce: &str,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Kept(store) => store.use_nonce(nonce, expires).await,
            Self::Remembered(used) => Ok(remember(used, nonce, expires, now)),
        }
    }
}

fn remember(
    used: &Mutex<HashMap<String, Timestamp>>,
    nonce: &str,
    expires: Timestamp,
    now: Timestamp,
) -> bool {
    let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
    if used.len() >= REMEMBERED {
        used.retain(|_, expires| *expires > now);
    }
    // Where so many come at once, nobody gets in for a minute rather than one of them twice.
    used.len() < REMEMBERED && used.insert(nonce.to_owned(), expires).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_nonce_is_used_once_wherever_it_is_noted() {
        let store = Store::memory();
        let now = Timestamp::now();
        for read_only in [false, true] {
            let (one, other) = (
                UsedNonces::of(&store, read_only),
                UsedNonces::of(&store, false),
            );
            assert!(one.first("a", now, now).await.unwrap());
            assert!(!one.first("a", now, now).await.unwrap());
            assert!(one.first("b", now, now).await.unwrap());
            // What one process only remembers, another one does not know.
            assert_eq!(other.first("b", now, now).await.unwrap(), read_only);
            store.forget_nonces(Timestamp::MAX).await.unwrap();
        }
    }
}
