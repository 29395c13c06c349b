//! One OCI registry over HTTP. For everything that talks to a registry: the verbs, the agent,
//! importers.
//!
//! * [`Registry`] is the connection: an [`Address`], [`Options`], a shared HTTP client.
//! * [`Repository`] has the operations; each is in the file of its noun:
//!   manifests (conditional, long poll), blobs (verified, resuming), uploads (mount, chunks),
//!   tags, referrers. A registry has its log of who did what.
//! * Every request passes one place that authenticates, retries and watches for progress;
//!   no call has a limit on its total time, each has one on silence ([`RetryPolicy`]).
//! * [`ClientError`] has a variant for every case that a caller may want to tell apart.

mod address;
mod audit;
mod auth;
mod auth_file;
mod blobs;
mod check;
mod content;
mod credentials;
mod download;
mod error;
mod listings;
mod manifests;
mod part;
mod pin;
mod progress;
mod rate;
mod referrers;
mod registry;
mod retry;
mod saved_hash;
mod sending;
mod sessions;
mod transport;
mod unfinished;
mod uploads;

pub use address::{Address, AddressError};
pub use audit::{AuditPages, AuditQuestion};
pub use auth::Login;
pub use auth_file::{CredentialsError, HELPER, forget, store};
pub use blobs::BlobReader;
pub use check::{Check, Passing};
pub use content::Content;
pub use credentials::{Credentials, Secret};
pub use error::ClientError;
pub use manifests::{Condition, Manifest, ManifestHead, Put, Watched};
pub use part::{Part, PartReader};
pub use progress::Progress;
pub use registry::{Options, Registry, Repository};
pub use retry::RetryPolicy;
pub use saved_hash::forget_download;
pub use uploads::Uploaded;
