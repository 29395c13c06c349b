//! Whether a bucket is one that a registry can be kept in: there, ours to write to, and a judge
//! between two writers. Asked once, at the start, instead of failing or losing a tag later.

use std::time::Duration;

use deploy_spec::{Algorithm, RepositoryName};
use futures::StreamExt as _;
use jiff::Timestamp;
use object_store::Error;

use super::{Bucket, Provider};
use crate::store::{
    Store, StoreError, keys, objects::Created, record, sessions::SessionRecord, upload_id::UploadId,
};

/// Who has no credentials in the environment may get them from the machine, or wait for a
/// service that is not there.
const MACHINE_ANSWERS: Duration = Duration::from_secs(15);

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use `{bucket}`: {problem}\nhint: {hint}")]
pub struct ConnectError {
    bucket: Box<Bucket>,
    problem: String,
    hint: &'static str,
}

impl ConnectError {
    fn new(bucket: &Bucket, problem: impl Into<String>, hint: &'static str) -> Self {
        Self {
            bucket: Box::new(bucket.clone()),
            problem: problem.into(),
            hint,
        }
    }

    /// The environment does not make a client.
    pub(super) fn settings(bucket: &Bucket, error: &Error) -> Self {
        let hint = match bucket.provider() {
            Provider::Amazon => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_REGION, and AWS_ENDPOINT_URL where it is not Amazon's"
            }
            Provider::Azure => {
                "set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, or AZURE_STORAGE_CONNECTION_STRING"
            }
            Provider::Google => "set GOOGLE_APPLICATION_CREDENTIALS to a service account's file",
        };
        Self::new(bucket, error.to_string(), hint)
    }

    fn no_credentials(bucket: &Bucket) -> Self {
        let problem =
            "there are no credentials in the environment, and this machine gives none out";
        let hint = match bucket.provider() {
            Provider::Amazon => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; files like ~/.aws/credentials are not read"
            }
            Provider::Azure => "set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY",
            Provider::Google => "set GOOGLE_APPLICATION_CREDENTIALS to a service account's file",
        };
        Self::new(bucket, problem, hint)
    }

    fn unconditional(bucket: &Bucket, what: &str) -> Self {
        Self::new(
            bucket,
            format!("{what}, so two writers of one tag would both succeed"),
            "use a store that honours If-None-Match and If-Match on PUT: Amazon's, Azure's, Google's, MinIO, R2, Ceph from Squid on",
        )
    }

    fn failed(bucket: &Bucket, error: StoreError, credentials: bool) -> Self {
        let StoreError::Backend(error) = error else {
            let hint = "empty it, or name another prefix";
            return Self::new(bucket, error.to_string(), hint);
        };
        match error {
            Error::NotFound { source, .. } => Self::new(
                bucket,
                format!("there is no such {}: {source}", bucket.provider().bucket()),
                "create it first; the registry does not. Or look whether endpoint and region are right",
            ),
            Error::PermissionDenied { source, .. } | Error::Unauthenticated { source, .. } => {
                Self::new(
                    bucket,
                    format!("access is refused: {source}"),
                    "look whether the keys are right, and may get, put, delete and list objects there",
                )
            }
            Error::NotImplemented { operation, .. } => {
                Self::unconditional(bucket, &format!("it does not do {operation}"))
            }
            _ if !credentials => Self::no_credentials(bucket),
            error => Self::new(
                bucket,
                error.to_string(),
                "look whether the endpoint is right and can be reached from here",
            ),
        }
    }
}

/// Looks whether the bucket can hold a registry. Leaves nothing behind; where this dies on the
/// way, what it leaves expires as an upload does.
pub(super) async fn probe(
    store: &Store,
    bucket: &Bucket,
    credentials: bool,
    read_only: bool,
) -> Result<(), ConnectError> {
    let failed = |error| ConnectError::failed(bucket, error, credentials);
    let listed = list(store);
    match credentials {
        true => listed.await.map_err(failed)?,
        false => match tokio::time::timeout(MACHINE_ANSWERS, listed).await {
            Ok(listed) => listed.map_err(failed)?,
            Err(_) => return Err(ConnectError::no_credentials(bucket)),
        },
    }
    if read_only {
        return Ok(());
    }
    match write(store).await.map_err(failed)? {
        None => Ok(()),
        Some(what) => Err(ConnectError::unconditional(bucket, what)),
    }
}

async fn list(store: &Store) -> Result<(), StoreError> {
    let mut listing = store.objects().list(&keys::catalog_entries(), None);
    listing.next().await.transpose()?;
    Ok(())
}

/// Returns what the bucket does wrong between writers, if anything.
async fn write(store: &Store) -> Result<Option<&'static str>, StoreError> {
    let objects = store.objects();
    let key = keys::upload(&UploadId::random());
    let name: RepositoryName = "probe".parse().expect("it is a name");
    let payload = || {
        record::encode(
            &SessionRecord::new(&name, Algorithm::Sha256, Timestamp::now()),
            [],
        )
    };
    objects.create(&key, payload()).await?;
    let judge = async || -> Result<Option<&'static str>, StoreError> {
        if objects.create(&key, payload()).await? == Created::New {
            return Ok(Some("it overwrites what `If-None-Match` should protect"));
        }
        let Some(found) = objects.read(&key).await? else {
            return Ok(Some("it does not show what was written"));
        };
        if !objects
            .update(&key, payload(), found.version.clone())
            .await?
        {
            return Ok(Some("it refuses an `If-Match` that holds"));
        }
        if objects.update(&key, payload(), found.version).await? {
            return Ok(Some("it overwrites what `If-Match` should protect"));
        }
        Ok(None)
    };
    let outcome = judge().await;
    let removed = objects.remove(&key).await;
    let outcome = outcome?;
    removed?;
    Ok(outcome)
}
