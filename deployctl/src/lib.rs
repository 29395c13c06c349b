#![doc = include_str!("../README.md")]

pub mod archive;
pub mod client;
pub mod layout;
pub mod ops;
pub mod transfer;
