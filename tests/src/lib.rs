//! The harness of the end-to-end scenarios: our programs and other projects', run as processes.

#![doc = include_str!("../README.md")]

pub mod archive;
pub mod command;
pub mod dam;
pub mod desk;
pub mod distribution;
pub mod hostile;
pub mod http;
pub mod images;
pub mod load;
pub mod minio;
pub mod oci;
pub mod peers;
pub mod port;
pub mod power;
pub mod programs;
pub mod registry;
pub mod releases;
pub mod replicas;
pub mod round_robin;
pub mod server;
pub mod tree;
pub mod wait;
pub mod walkthrough;
