//! What was good for one login and is used: an object for each, which whoever uses it creates, so that
//! one of any number of processes does. Called by [`crate::auth`], and by `jobs` when they expired.

use futures::TryStreamExt as _;
use jiff::Timestamp;
use object_store::PutPayload;
use rand::RngExt as _;

use super::{Store, error::StoreError, keys, objects::Created};

impl Store {
    /// Takes note that a nonce is used which is good until `expires`, and returns whether it was not
    /// before. Atomic among all processes that serve the store, and durable.
    pub(crate) async fn use_nonce(
        &self,
        nonce: &str,
        expires: Timestamp,
    ) -> Result<bool, StoreError> {
        let user = format!("{:032x}", rand::rng().random::<u128>());
        let key = keys::nonce(expires, nonce);
        let created = self.objects().create_own(&key, PutPayload::from(user));
        Ok(created.await? == Created::New)
    }

    /// Forgets nonces that were good until then at the longest, and returns how many they were. Leave
    /// room for clocks that are behind: a nonce that is good there must not be forgotten here.
    pub(crate) async fn forget_nonces(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        let mut listed = self.objects().list(&keys::nonces(), None);
        while let Some(key) = listed.try_next().await? {
            match keys::nonce_of(&key) {
                Some(expired) if expired < before => {
                    self.objects().remove(&key).await?;
                    forgotten += 1;
                }
                // All behind it were good for longer.
                Some(_) => break,
                None => tracing::debug!(%key, "no nonce that was used"),
            }
        }
        Ok(forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nonces_are_used_once_and_forgotten_in_time() {
        let store = Store::memory();
        let time = |second| Timestamp::from_second(second).unwrap();
        let processes = (0..8).map(|_| store.use_nonce("a", time(100)));
        let first = futures::future::try_join_all(processes).await.unwrap();
        assert_eq!(first.iter().filter(|first| **first).count(), 1);
        assert!(store.use_nonce("b", time(200)).await.unwrap());
        assert_eq!(store.forget_nonces(time(100)).await.unwrap(), 0);
        assert!(!store.use_nonce("a", time(100)).await.unwrap());
        assert_eq!(store.forget_nonces(time(101)).await.unwrap(), 1);
        assert!(!store.use_nonce("b", time(200)).await.unwrap());
    }
}
