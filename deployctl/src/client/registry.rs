//! A registry and its repositories: what the client's operations are called on.

use std::{fmt, num::NonZeroU64, path::PathBuf, sync::Arc};

use deploy_spec::{Fingerprint, RepositoryName};
use http::Method;
use url::Url;

use super::{
    Address, ClientError, Credentials, RetryPolicy,
    auth::{Access, Login, Scope},
    transport::{Call, Transport},
};

/// How a registry is talked to; the default is anonymous.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who the client is.
    pub credentials: Credentials,
    /// The key that the registry's certificate must have.
    pub fingerprint: Option<Fingerprint>,
    /// How patient the client is.
    pub retry: RetryPolicy,
    /// How many bytes of answers may come in a second, all together; any number without one.
    pub rate: Option<NonZeroU64>,
    /// A directory, made where it is needed, of uploads that are under way: with it, large ones that
    /// a program leaves unfinished are gone on with by the next one.
    pub unfinished: Option<PathBuf>,
}

/// A registry. Cheap to clone; all clones share connections and tokens.
#[derive(Clone)]
pub struct Registry {
    pub(super) transport: Arc<Transport>,
}

impl Registry {
    /// Returns the registry at an address. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ClientError::Address`] where address and fingerprint contradict each other,
    /// [`ClientError::Setup`] where no HTTP client can be made.
    pub fn new(address: Address, options: Options) -> Result<Self, ClientError> {
        Ok(Self {
            transport: Arc::new(Transport::new(address, options)?),
        })
    }

    /// Returns the address.
    pub fn address(&self) -> &Address {
        &self.transport.address
    }

    /// Makes sure that somebody is there and is a registry. The first operation does it too;
    /// once it has succeeded it costs nothing.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] and [`ClientError::NotARegistry`].
    pub async fn ping(&self) -> Result<(), ClientError> {
        self.transport.contact().await
    }

    /// Proves who the client is, now rather than when it is asked, for tokens of these scopes.
    /// Returns what that gave, which may be nothing that can be passed on; nothing at all where
    /// the registry asks nobody.
    ///
    /// # Errors
    /// [`ClientError::Unauthorized`] where the proof does not satisfy.
    pub async fn log_in(
        &self,
        scopes: &[deploy_spec::Scope],
    ) -> Result<Option<Login>, ClientError> {
        let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        self.transport.log_in(&scopes.join(" ")).await
    }

    /// Returns the certificate that the registry shows, in PEM, verified as every connection is.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`] from one that is spoken to in plain HTTP.
    pub async fn certificate(&self) -> Result<String, ClientError> {
        self.transport.certificate().await
    }

    /// Returns one of its repositories, whether that exists or not.
    pub fn repository(&self, name: RepositoryName) -> Repository {
        Repository {
            transport: self.transport.clone(),
            name,
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Registry({})", self.address())
    }
}

/// A repository of a registry: manifests, blobs, tags. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    pub(super) transport: Arc<Transport>,
    pub(super) name: RepositoryName,
}

impl Repository {
    /// Returns its name.
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Returns the registry that it is in.
    pub fn registry(&self) -> Registry {
        Registry {
            transport: self.transport.clone(),
        }
    }

    /// True where both are in one registry, so that blobs can be mounted.
    pub fn shares_registry_with(&self, other: &Self) -> bool {
        self.transport.base == other.transport.base
    }

    /// Returns the URL of an API path within the repository.
    pub(super) fn url(&self, path: &str) -> Url {
        self.transport.url(&format!("v2/{}/{path}", self.name))
    }

    /// Returns a request of somebody who may read the repository.
    pub(super) fn reading(&self, operation: &str, method: Method, url: Url) -> Call {
        Call::new(
            operation.to_owned(),
            Scope::of(&self.name, Access::Pull),
            method,
            url,
        )
    }

    /// Returns a request of somebody who may write to the repository.
    pub(super) fn writing(&self, operation: &str, method: Method, url: Url) -> Call {
        Call::new(
            operation.to_owned(),
            Scope::of(&self.name, Access::Push),
            method,
            url,
        )
    }

    /// Returns a request of somebody who may delete in the repository.
    pub(super) fn deleting(&self, operation: &str, url: Url) -> Call {
        let scope = Scope::of(&self.name, Access::Delete);
        Call::new(operation.to_owned(), scope, Method::DELETE, url)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Repository({}/{})",
            self.transport.address, self.name
        )
    }
}
