//! The format of what the deploy tools store: names, media types and documents; bytes in, values out.

#![doc = include_str!("../README.md")]

pub mod annotation;
pub mod arguments;
pub mod audit;
pub mod component;
pub mod digest;
pub mod error;
pub mod fingerprint;
mod json;
pub mod listing;
pub mod login;
pub mod manifest;
pub mod media_type;
pub mod name;
pub mod openssh;
pub mod range;
pub mod release;
pub mod scope;
pub mod signature;
pub mod time;

pub use component::ComponentVersion;
pub use digest::{Algorithm, Digest, Hasher};
pub use error::{Envelope, ErrorCode};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use manifest::{Descriptor, Outline};
pub use name::{
    Channel, ComponentName, ConfigurationName, LayerReference, NameError, Prefix, Reference,
    ReleaseNumber, RepositoryName, Tag, Version,
};
pub use release::{Release, ReleaseLayer};
pub use scope::{Actions, Scope, ScopeError};
