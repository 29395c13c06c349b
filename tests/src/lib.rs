//! Harness of the end-to-end scenarios: it runs the real programs, ours and other projects', as separate
//! processes, and looks at what they answer and what they leave on disk.
//!
//! | module | gives |
//! |---|---|
//! | [`programs`] | the workspace's own programs, built when they are missing or stale |
//! | [`peers`] | other projects' programs, and what a test does where one is missing |
//! | [`command`] | one program run to its end: exit code and both streams |
//! | [`server`] | one program left running: its log, its address, its end by pid |
//! | [`registry`] | our registry on a directory |
//! | [`distribution`] | the CNCF distribution registry, as the server that is not ours |
//! | [`desk`] | an operator's and a host's place of work: a home, files, both command lines |
//! | [`archive`] | archives made entry by entry, hostile ones too |
//! | [`http`] | single HTTP requests, byte for byte as wanted |
//! | [`oci`] | what a registry holds, asked for with plain requests |
//! | [`tree`] | what a directory holds, for comparisons |
//! | [`walkthrough`] | the commands and answers shown in the README |
//! | [`wait`] | waiting for a condition, with a deadline |
//!
//! The scenarios in `tests/tests/` and the demo call it; nothing else does.

pub mod archive;
pub mod command;
pub mod desk;
pub mod distribution;
pub mod http;
pub mod oci;
pub mod peers;
pub mod programs;
pub mod registry;
pub mod server;
pub mod tree;
pub mod wait;
pub mod walkthrough;
