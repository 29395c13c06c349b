//! Container images as configurations: found wherever they are, imported with the bytes they have.

#![doc = include_str!("../README.md")]

mod error;
mod flatten;
mod import;
pub mod names;
pub mod platform;
mod recompress;
pub mod reference;
pub mod source;
pub mod unit;

pub use error::ImportError;
pub use import::{Imported, Plan, Request};
pub use platform::Platform;
pub use reference::{ImageName, SourceReference};
