//! The agent of a host: follows a configuration, unpacks each new release, and hands it to a script.

#![doc = include_str!("../README.md")]

mod admission;
mod cache;
mod content;
mod deployer;
mod directory;
mod error;
mod file;
mod hooks;
mod image;
mod journal;
mod layout;
pub mod machine;
mod metrics;
mod mirrors;
mod notify;
mod output;
mod pause;
mod plan;
mod prune;
mod record;
mod registry;
mod requests;
mod room;
mod runner;
mod source;
mod status;
mod stop;
mod verify;
mod visit;

pub use admission::Gate;
pub use deployer::{Deployer, Settings};
pub use directory::{Directory, Request};
pub use error::AgentError;
pub use hooks::{Check, Hook, Script};
pub use layout::LayoutSource;
pub use metrics::{Counter, Metrics};
pub use mirrors::Mirrored;
pub use notify::Notify;
pub use pause::Pauses;
pub use plan::{Fetching, Plan, Planning};
pub use prune::{Pruned, Pruning};
pub use registry::RegistrySource;
pub use requests::{Asked, retry, rollback};
pub use room::NoRoom;
pub use runner::{Executor, Outcome, Runner, Signal, Signals};
pub use source::{AnySource, Download, Look, Source, SourceError};
pub use status::Status;
pub use stop::Stop;
pub use verify::{Extra, Verified, Verifying};
pub use visit::Host;
