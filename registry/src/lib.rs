#![doc = include_str!("../README.md")]

mod http;
pub mod jobs;
pub mod server;
pub mod store;

pub use server::{ServerSettings, serve};
pub use store::{Store, StoreError};
