//! Layer archives: made deterministically, looked into, planned and unpacked safely.
//! For the verbs that push, and for whoever puts releases on a disk. Everything here blocks;
//! asynchronous callers run one whole operation on a blocking thread.
//!
//! * [`pack`] writes the archive of some files: the same tree gives the same digest anywhere.
//! * [`inspect`] reads a finished archive to its end and says what it is, or refuses it.
//! * [`Layers::open`] → [`Layers::plan`] → [`Layers::materialise`] put layers on a disk;
//!   [`unpack`] is the three in one. Nothing is written before every header of every layer
//!   has been read, checked and merged, and every digest has agreed.

mod beneath;
mod decode;
mod encode;
mod error;
mod header;
mod inspect;
mod limits;
mod materialise;
mod measure;
mod pack;
mod path;
mod plan;
mod reader;
mod remove;
mod survivors;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;
mod walk;
mod whiteout;

pub use error::{ArchiveError, LimitKind, Rule};
pub use inspect::{Inspected, inspect};
pub use limits::Limits;
pub use materialise::{Ownership, SpecialBits};
pub use pack::{PackOptions, Packed, pack};
pub use plan::{LayerSource, Layers, Plan};
pub use remove::remove_tree;
pub use unpack::{UnpackOptions, Unpacked, unpack};
