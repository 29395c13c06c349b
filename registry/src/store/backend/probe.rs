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
        let Answer { from, text } = Answer::of(&error);
        match Reason::of(&error, &text) {
            Reason::Absent => Self::new(
                bucket,
                format!(
                    "there is no such {} at {from}: {text}",
                    bucket.provider().bucket()
                ),
                "create it first; the registry does not. Or look whether endpoint and region are right",
            ),
            // Some networks refuse what asks the machine for keys, others do not answer.
            Reason::Refused if !credentials && is_machine(&from) => Self::no_credentials(bucket),
            Reason::Refused => Self::new(
                bucket,
                format!("{from} refuses access: {text}"),
                "look whether the keys are right, and may get, put, delete and list objects there",
            ),
            Reason::Unconditional(what) => Self::unconditional(bucket, &what),
            Reason::Unreachable | Reason::Other if !credentials => Self::no_credentials(bucket),
            Reason::Unreachable => Self::new(
                bucket,
                format!("{from} cannot be reached: {text}"),
                "look whether the endpoint is right, its port, http or https, and can be reached from here",
            ),
            Reason::Other => Self::new(
                bucket,
                format!("{from} fails: {text}"),
                "look whether the endpoint is right, and what its own log says",
            ),
        }
    }
}

/// Returns whether this is where machines in a cloud are given credentials.
fn is_machine(origin: &str) -> bool {
    origin.contains("//169.254.") || origin.contains("//metadata.google.internal")
}

/// What a store said, without what the library says around it.
struct Answer {
    /// The beginning of the URL that was asked.
    from: String,
    text: String,
}

impl Answer {
    fn of(error: &Error) -> Self {
        let whole = error.to_string();
        let url = whole.split_whitespace().find(|word| word.contains("://"));
        let from = url
            .and_then(|word| word.trim_matches(['(', ')', ',']).parse::<url::Url>().ok())
            .map(|url| url.origin().ascii_serialization());
        // `… performing GET URL in 1ms, after 8 retries, … - what was answered`
        let text = whole.split_once(" - ").map_or(&*whole, |(_, text)| text);
        let text = [
            "Server returned non-2xx status code: ",
            "HTTP error: error sending request: ",
            "client error (Connect): ",
        ]
        .iter()
        .fold(text, |text, around| {
            text.strip_prefix(around).unwrap_or(text)
        });
        Self {
            from: from.unwrap_or_else(|| "the store".to_owned()),
            text: text.to_owned(),
        }
    }
}

/// Why a bucket cannot be used, as far as an operator needs to know.
#[derive(Debug, PartialEq, Eq)]
enum Reason {
    Absent,
    Refused,
    Unreachable,
    Unconditional(String),
    Other,
}

impl Reason {
    /// Listings that fail have one kind of error, whatever was answered; so the text decides.
    fn of(error: &Error, text: &str) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match error {
            Error::NotImplemented { operation, .. } => {
                Self::Unconditional(format!("it does not do {operation}"))
            }
            Error::NotFound { .. } => Self::Absent,
            _ if says(&["NoSuchBucket", "ContainerNotFound", "404 Not Found"]) => Self::Absent,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Self::Refused,
            _ if says(&["401 Unauthorized", "403 Forbidden"]) => Self::Refused,
            // Of a client that never had an answer.
            _ if error.to_string().contains("error sending request") => Self::Unreachable,
            _ => Self::Other,
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

#[cfg(test)]
mod tests {
    use super::*;

    const AROUND: &str =
        "Error performing list request: Error performing GET http://127.0.0.1:9000/b";

    #[test]
    fn machine_that_gives_no_credentials_out_is_not_blamed_on_keys() {
        let error = |end: &str| Error::Generic {
            store: "S3",
            source: format!(
                "Error performing PUT http://169.254.169.254/latest/api/token in 2ms{end}"
            )
            .into(),
        };
        let Ok(crate::store::Location::Bucket(bucket)) = "s3://b/x".parse() else {
            panic!("it is a bucket");
        };
        for end in [
            " - Server returned non-2xx status code: 403 Forbidden: denied",
            ", after 8 retries - HTTP error: error sending request",
        ] {
            let failed = ConnectError::failed(&bucket, StoreError::Backend(error(end)), false);
            let text = failed.to_string();
            assert!(text.contains("no credentials in the environment"), "{text}");
            assert!(text.contains("hint: set AWS_ACCESS_KEY_ID"), "{text}");
        }
    }

    /// An error as the library words it, with this at its end.
    fn failure(end: &str) -> ConnectError {
        let Ok(crate::store::Location::Bucket(bucket)) = "s3://b/x".parse() else {
            panic!("it is a bucket");
        };
        let error = Error::Generic {
            store: "S3",
            source: format!("{AROUND} in 40ms{end}").into(),
        };
        ConnectError::failed(&bucket, StoreError::Backend(error), true)
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_and_what_to_do_in_the_next() {
        let status = " - Server returned non-2xx status code: ";
        let table = [
            (
                format!("{status}404 Not Found: NoSuchBucket, The bucket does not exist"),
                "there is no such bucket at http://127.0.0.1:9000: 404 Not Found: NoSuchBucket, The bucket does not exist",
                "create it first",
            ),
            (
                format!("{status}403 Forbidden: InvalidAccessKeyId, No such key."),
                "http://127.0.0.1:9000 refuses access: 403 Forbidden: InvalidAccessKeyId, No such key.",
                "look whether the keys are right",
            ),
            (
                ", after 8 retries, max_retries: 8, retry_timeout: 20s  - HTTP error: error sending request: \
                 client error (Connect): tcp connect error: Connection refused (os error 111)"
                    .to_owned(),
                "http://127.0.0.1:9000 cannot be reached: tcp connect error: Connection refused (os error 111)",
                "look whether the endpoint is right",
            ),
            (
                format!("{status}500 Internal Server Error: InternalError, Sorry"),
                "http://127.0.0.1:9000 fails: 500 Internal Server Error: InternalError, Sorry",
                "look whether the endpoint is right, and what its own log says",
            ),
        ];
        for (end, problem, hint) in table {
            let text = failure(&end).to_string();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], format!("cannot use `s3://b/x`: {problem}"));
            assert!(lines[1].starts_with(&format!("hint: {hint}")), "{text}");
            assert_eq!(lines.len(), 2);
        }
    }
}
