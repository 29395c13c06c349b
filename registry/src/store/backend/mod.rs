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

use object_store::{ObjectStore, multipart::MultipartStore, prefix::PrefixStore};

use super::Store;
use credentials::Attempts;

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
        let name = bucket.name();
        let made = match bucket.provider() {
            Provider::Amazon => Self::within(bucket, |attempts| {
                credentials::amazon(name, environment, attempts)
            }),
            Provider::Azure => Self::within(bucket, |attempts| {
                credentials::azure(name, environment, attempts)
            }),
            Provider::Google => Self::within(bucket, |attempts| {
                credentials::google(name, environment, attempts)
            }),
        };
        let store = made.map_err(|error| ConnectError::settings(bucket, &error))?;
        let known = credentials::are_given(bucket.provider(), environment);
        probe::probe(&store, bucket, known, read_only).await?;
        Ok(store)
    }

    fn within<S: ObjectStore + MultipartStore>(
        bucket: &Bucket,
        client: impl Fn(Attempts) -> object_store::Result<S>,
    ) -> object_store::Result<Self> {
        let client = |attempts| -> object_store::Result<PrefixStore<S>> {
            let client = client(attempts)?;
            Ok(PrefixStore::new(client, bucket.prefix().clone()))
        };
        let (store, once) = (client(Attempts::Some)?, client(Attempts::One)?);
        Ok(Self::over(bucket.to_string(), true, store, Some(once)))
    }
}
