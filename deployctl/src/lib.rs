//! The toolbox that the deploy tools share: a client for registries, archives, layouts, and the verbs over them.

#![doc = include_str!("../README.md")]

pub mod archive;
pub mod client;
pub mod connect;
pub mod layout;
pub mod ops;
pub mod report;
pub mod signing;
pub mod ssh;
pub mod transfer;
