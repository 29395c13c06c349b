//! Clients of the clouds: from environment variables to builders, with timeouts and retries of
//! ours. Reads nothing of the process's own environment; the one file that it reads is
//! `AWS_CA_BUNDLE`.
//!
//! All variables that the library knows are taken, and a few more that the clouds' own programs
//! read. What the environment says of timeouts wins over what stands here.

use std::{str::FromStr, time::Duration};

use object_store::{
    BackoffConfig, Certificate, ClientOptions, Error, Result, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey},
};

use super::Provider;

/// The variables of a process, as its `main` read them.
type Environment = [(String, String)];

/// How long a store may be silent, while it is connected to, and in the middle of an answer.
/// There is no limit for a whole transfer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Stores close idle connections after 20 seconds or more. Whoever writes to one at that moment
/// cannot know whether the write was done.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a client sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempts {
    /// Once, whatever becomes of it.
    One,
    /// What fails for a moment is tried again for about as long as clients wait for an answer;
    /// what fails for longer is theirs to try again (503, `Retry-After`).
    ///
    /// That holds for conditional writes and deletes too, where the connection ends or the
    /// server fails instead of answering: the library takes them for not done. So whoever finds
    /// his write refused looks whether it is his own, and what must not be deleted twice goes
    /// through a client that sends it once.
    Some,
}

impl Attempts {
    fn retries(self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(3),
                base: 2.0,
            },
            max_retries: match self {
                Self::One => 0,
                Self::Some => 8,
            },
            retry_timeout: Duration::from_secs(20),
        }
    }
}

fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_pool_idle_timeout(IDLE_TIMEOUT)
}

/// Returns the variables that begin so and that the builder knows.
fn known<'a, K: FromStr>(
    environment: &'a Environment,
    start: &'a str,
) -> impl Iterator<Item = (K, &'a str)> {
    environment
        .iter()
        .filter(move |(name, value)| name.starts_with(start) && !value.is_empty())
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.as_str())))
}

fn variable<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    let found = environment.iter().find(|(other, _)| other == name);
    found
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
}

/// Returns whether the environment holds credentials, or names something that gives them out.
/// Without, the clients ask the machine that they run on.
pub(super) fn are_given(provider: Provider, environment: &Environment) -> bool {
    let names: &[&str] = match provider {
        Provider::Amazon => &[
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_SKIP_SIGNATURE",
        ],
        Provider::Azure => &[
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_ACCESS_KEY",
            "AZURE_STORAGE_MASTER_KEY",
            "AZURE_STORAGE_KEY",
            "AZURE_STORAGE_CONNECTION_STRING",
            "AZURE_STORAGE_SAS_TOKEN",
            "AZURE_STORAGE_SAS_KEY",
            "AZURE_STORAGE_TOKEN",
            "AZURE_STORAGE_CLIENT_SECRET",
            "AZURE_CLIENT_SECRET",
            "AZURE_FEDERATED_TOKEN_FILE",
            "AZURE_STORAGE_USE_EMULATOR",
            "AZURE_USE_AZURE_CLI",
            "AZURE_SKIP_SIGNATURE",
        ],
        Provider::Google => &[
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_SERVICE_ACCOUNT",
            "GOOGLE_SERVICE_ACCOUNT_PATH",
            "GOOGLE_SERVICE_ACCOUNT_KEY",
            "GOOGLE_BEARER_TOKEN",
            "GOOGLE_SKIP_SIGNATURE",
        ],
    };
    names
        .iter()
        .any(|name| variable(environment, name).is_some())
}

/// Returns the client of an S3 bucket.
pub(super) fn amazon(
    bucket: &str,
    environment: &Environment,
    attempts: Attempts,
) -> Result<AmazonS3> {
    let mut options = client_options();
    if let Some(file) = variable(environment, "AWS_CA_BUNDLE") {
        let read = std::fs::read(file);
        let pem = read.map_err(|error| {
            generic("S3", format!("cannot read AWS_CA_BUNDLE `{file}`: {error}"))
        })?;
        for certificate in Certificate::from_pem_bundle(&pem)? {
            options = options.with_root_certificate(certificate);
        }
    }
    let mut builder = AmazonS3Builder::new()
        .with_client_options(options)
        .with_retry(attempts.retries())
        // One object a request: every store has it, and refusals are told apart.
        .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true");
    let mut endpoint = None;
    for (key, value) in known(environment, "AWS_") {
        if matches!(
            key,
            AmazonS3ConfigKey::Endpoint | AmazonS3ConfigKey::S3Endpoint
        ) {
            endpoint = Some(value);
        }
        builder = builder.with_config(key, value);
    }
    // Whoever writes such an endpoint out wants it.
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    builder.with_bucket_name(bucket).build()
}

/// Returns the client of a container of an Azure storage account.
pub(super) fn azure(
    container: &str,
    environment: &Environment,
    attempts: Attempts,
) -> Result<MicrosoftAzure> {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_client_options(client_options())
        .with_retry(attempts.retries());
    let mut endpoint = None;
    if let Some(text) = variable(environment, "AZURE_STORAGE_CONNECTION_STRING") {
        for (key, value) in connection_string(text) {
            if matches!(key, AzureConfigKey::Endpoint) {
                endpoint = Some(value.clone());
            }
            builder = builder.with_config(key, value);
        }
    }
    // As Azure's own command line calls them.
    for (name, key) in [
        ("AZURE_STORAGE_ACCOUNT", AzureConfigKey::AccountName),
        ("AZURE_STORAGE_KEY", AzureConfigKey::AccessKey),
    ] {
        if let Some(value) = variable(environment, name) {
            builder = builder.with_config(key, value);
        }
    }
    for (key, value) in known(environment, "AZURE_") {
        if matches!(key, AzureConfigKey::Endpoint) {
            endpoint = Some(value.to_owned());
        }
        builder = builder.with_config(key, value);
    }
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    builder.with_container_name(container).build()
}

/// Returns the settings that a connection string holds, as far as they concern blobs.
fn connection_string(text: &str) -> Vec<(AzureConfigKey, String)> {
    let fields: Vec<(&str, &str)> = (text.split(';'))
        .filter_map(|field| field.trim().split_once('='))
        .collect();
    let field = |name: &str| {
        let found = fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| (*value).to_owned())
    };
    let endpoint = field("BlobEndpoint").or_else(|| {
        let (account, suffix) = (field("AccountName")?, field("EndpointSuffix")?);
        let protocol = field("DefaultEndpointsProtocol").unwrap_or_else(|| "https".to_owned());
        Some(format!("{protocol}://{account}.blob.{suffix}"))
    });
    [
        (AzureConfigKey::AccountName, field("AccountName")),
        (AzureConfigKey::AccessKey, field("AccountKey")),
        (AzureConfigKey::SasKey, field("SharedAccessSignature")),
        (AzureConfigKey::Endpoint, endpoint),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect()
}

/// Returns the client of a Google Cloud Storage bucket.
pub(super) fn google(
    bucket: &str,
    environment: &Environment,
    attempts: Attempts,
) -> Result<GoogleCloudStorage> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_client_options(client_options())
        .with_retry(attempts.retries());
    for (key, value) in known::<GoogleConfigKey>(environment, "GOOGLE_") {
        builder = builder.with_config(key, value);
    }
    builder.with_bucket_name(bucket).build()
}

fn generic(store: &'static str, message: String) -> Error {
    Error::Generic {
        store,
        source: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    const SECRET: &str = "bm90IGEgcmVhbCBrZXksIGJ1dCBsb25nIGVub3VnaA==";

    #[test]
    fn amazon_takes_endpoint_region_and_keys() {
        let environment = environment(&[
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_REGION", "eu-north-1"),
            ("AWS_BUCKET", "another"),
            ("AWS_PROFILE", "ignored"),
        ]);
        assert!(are_given(Provider::Amazon, &environment));
        let store = amazon("bucket", &environment, Attempts::Some).unwrap();
        assert_eq!(store.to_string(), "AmazonS3(bucket)");
        let shown = format!("{store:?}");
        assert!(
            shown.contains("eu-north-1") && shown.contains("http://127.0.0.1:1"),
            "{shown}"
        );
        assert!(!shown.contains(SECRET), "{shown}");
    }

    #[test]
    fn half_of_a_key_is_said() {
        let environment = environment(&[("AWS_ACCESS_KEY_ID", "id")]);
        let error = amazon("bucket", &environment, Attempts::Some)
            .unwrap_err()
            .to_string();
        assert!(error.contains("SecretAccessKey"), "{error}");
    }

    #[test]
    fn azure_takes_its_command_lines_variables_and_connection_strings() {
        for pairs in [
            &[
                ("AZURE_STORAGE_ACCOUNT", "acme"),
                ("AZURE_STORAGE_KEY", SECRET),
            ][..],
            &[
                ("AZURE_STORAGE_ACCOUNT_NAME", "acme"),
                ("AZURE_STORAGE_ACCOUNT_KEY", SECRET),
            ],
            &[(
                "AZURE_STORAGE_CONNECTION_STRING",
                "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=bm90IGEgcmVhbCBrZXksIGJ1dCBsb25nIGVub3VnaA==;EndpointSuffix=core.windows.net",
            )],
        ] {
            let environment = environment(pairs);
            assert!(are_given(Provider::Azure, &environment));
            let store = azure("c", &environment, Attempts::Some).unwrap();
            assert_eq!(
                store.to_string(),
                "MicrosoftAzure { account: acme, container: c }"
            );
        }
        assert!(!are_given(Provider::Azure, &[]));
        let error = azure("c", &[], Attempts::Some).unwrap_err().to_string();
        assert!(error.contains("Account"), "{error}");
    }

    #[test]
    fn google_takes_a_service_account() {
        let key = r#"{"private_key":"private_key","private_key_id":"id","client_email":"a@b","disable_oauth":true}"#;
        let environment = environment(&[("GOOGLE_SERVICE_ACCOUNT_KEY", key)]);
        assert!(are_given(Provider::Google, &environment));
        let store = google("bucket", &environment, Attempts::Some).unwrap();
        assert_eq!(store.to_string(), "GoogleCloudStorage(bucket)");
        let wrong = self::environment(&[("GOOGLE_SERVICE_ACCOUNT", "/does/not/exist")]);
        assert!(google("bucket", &wrong, Attempts::Some).is_err());
    }
}
