#![doc = include_str!("../README.md")]

pub mod archive;
pub mod command;
pub mod desk;
pub mod distribution;
pub mod faulty_proxy;
pub mod http;
pub mod oci;
pub mod peers;
pub mod port;
pub mod programs;
pub mod registry;
pub mod server;
pub mod tree;
pub mod wait;
pub mod walkthrough;
