//! The registry as a library: the distribution API over any object store.

#![doc = include_str!("../README.md")]

pub mod access_log;
pub mod audit;
pub mod auth;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod http;
pub mod identity;
pub mod jobs;
pub mod limits;
mod measure;
mod metrics;
pub mod server;
pub mod store;

pub use access_log::{AccessFormat, AccessLog};
pub use audit::AuditLog;
pub use identity::{Identity, IdentityError};
pub use limits::{Limiter, Limits, Rate};
pub use server::{Audit, Mode, Plain, ServerSettings, Tls, TlsError, serve};
pub use store::{Store, StoreError};
