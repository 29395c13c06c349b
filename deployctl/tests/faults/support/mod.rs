//! A registry that misbehaves as told: an HTTP server of a few lines, one connection a request,
//! so that every byte and every break is the test's. For the tests of this crate alone.

pub(crate) mod memory;
pub(crate) mod server;
pub(crate) mod sessions;

use std::time::Duration;

use deployctl::client::{Credentials, Options, Registry, Repository, RetryPolicy};

/// Returns a client that loses no time.
pub(crate) fn registry(address: &str) -> Registry {
    registry_as(address, Credentials::Anonymous)
}

/// Returns such a client with credentials.
pub(crate) fn registry_as(address: &str, credentials: Credentials) -> Registry {
    let options = Options {
        credentials,
        ..Options::default()
    };
    registry_with(address, options)
}

/// Returns such a client with these options.
pub(crate) fn registry_with(address: &str, options: Options) -> Registry {
    let retry = RetryPolicy {
        attempts: 3,
        first_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(2),
        ..RetryPolicy::default()
    };
    let options = Options { retry, ..options };
    Registry::new(address.parse().unwrap(), options).unwrap()
}

/// Returns a repository of such a client.
pub(crate) fn repository(address: &str) -> Repository {
    registry(address).repository("components/code".parse().unwrap())
}
