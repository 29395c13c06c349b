//! Layer archives: made deterministically, looked into, planned and unpacked safely.
//! For the verbs that push, and for whoever puts releases on a disk. Everything here blocks;
//! asynchronous callers run one whole operation on a blocking thread.
//!
//! * [`pack`] writes the archive of some files: the same tree gives the same digest anywhere.
//! * [`inspect`] reads a finished archive to its end and says what it is, or refuses it.
//! * [`flatten`] makes one archive of what several layers make together.
//! * [`recompress`] makes the same archive compressed otherwise.
//! * [`unpack`] puts layers on a disk, [`Layers::plan`] says what would come out.
//! * [`Layers::describe`] keeps the hash of every file too: [`Described::changes_since`] compares
//!   releases, [`Described::compare`] a release with a tree on a disk, which [`repair`] restores.
//!
//! No name of an
//!   archive is used before every header of every layer has been read, checked and merged, and
//!   every digest has agreed.

mod beneath;
mod changes;
mod compare;
mod contents;
mod decode;
mod decompress;
mod describe;
mod dialect;
mod emit;
mod encode;
mod error;
mod extended;
mod flatten;
mod flusher;
mod full;
mod growing;
mod hashing;
mod header;
mod incoming;
mod inspect;
mod large;
mod layer;
mod limits;
mod linking;
mod materialise;
mod measure;
mod metadata;
mod nodes;
mod pack;
mod path;
mod pax;
mod plan;
mod planned;
mod reader;
mod recompress;
mod remove;
mod repair;
mod rules;
mod sandbox;
mod shown;
mod survivors;
mod takeover;
#[cfg(test)]
mod tests;
mod threads;
mod tree;
mod unpack;
mod walk;
mod ways;
mod whiteout;
mod writers;

pub use changes::{Change, ChangeKind, NodeKind};
pub use compare::{Deviation, Drift};
pub use describe::Described;
pub use dialect::Dialect;
pub use error::{ArchiveError, LimitKind, Rule};
pub use extended::{AttributePattern, AttributePatternError};
pub use flatten::{FlattenOptions, Flattened, flatten};
pub use growing::{Grower, Growing};
pub use inspect::{Depth, Inspected, Known, Uncompressed, inspect, inspect_known};
pub use limits::Limits;
pub use pack::{PackOptions, Packed, pack};
pub use plan::{LayerSource, Layers, Plan};
pub use planned::{Planned, PlannedKind};
pub use recompress::{Recompressed, recompress};
pub use remove::remove_tree;
pub use repair::{Extras, Repair, Repaired, repair};
pub use rules::{Ownership, SpecialBits};
pub use shown::Shown;
pub use takeover::TakeOver;
pub use unpack::{UnpackOptions, Unpacked, unpack};
