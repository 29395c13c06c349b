//! Buckets: from `--store s3://…`, `az://…` or `gs://…` and the environment to a store that is
//! known to keep its promises. Called by [`super::Store::connect`]; nothing else meets a cloud's
//! client.
//!
//! ```text
//! location     what was typed → which bucket of whom       (pure)
//! credentials  environment → builders of the clients       (pure, but for a CA file)
//! probe        does the bucket answer, and decide between two writers?
//! ```

mod credentials;
mod location;
mod probe;

pub use location::{Bucket, Location, LocationError, Provider};
pub use probe::ConnectError;

use object_store::prefix::PrefixStore;

use super::Store;

impl Store {
    /// Returns the store in a bucket, with credentials and endpoints from `environment`: the
    /// variables that users of that cloud's own programs have set already.
    ///
    /// Looks first whether the bucket is there, may be written to, and honours conditional
    /// writes; `read_only` leaves out what writes.
    ///
    /// # Errors
    /// [`ConnectError`] says what is missing and what to do about it.
    pub async fn connect(
        bucket: &Bucket,
        environment: &[(String, String)],
        read_only: bool,
    ) -> Result<Self, ConnectError> {
        let (place, prefix) = (bucket.to_string(), bucket.prefix().clone());
        let failed = |error| ConnectError::settings(bucket, &error);
        let store = match bucket.provider() {
            Provider::Amazon => {
                let store = credentials::amazon(bucket.name(), environment).map_err(failed)?;
                Self::over(place, true, PrefixStore::new(store, prefix))
            }
            Provider::Azure => {
                let store = credentials::azure(bucket.name(), environment).map_err(failed)?;
                Self::over(place, true, PrefixStore::new(store, prefix))
            }
            Provider::Google => {
                let store = credentials::google(bucket.name(), environment).map_err(failed)?;
                Self::over(place, true, PrefixStore::new(store, prefix))
            }
        };
        let known = credentials::are_given(bucket.provider(), environment);
        probe::probe(&store, bucket, known, read_only).await?;
        Ok(store)
    }
}
