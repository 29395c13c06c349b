//! Who did what, and who was refused: lines that are kept beside what they speak of. Filled by
//! `http` and `jobs`, kept by `store`.
//!
//! ```text
//! witness     what is known of somebody before he does anything: who, from where
//!   log       takes lines, and writes those that came together as one object
//!     refusals   which refusals have a line of their own, and which are only counted
//! reader      a page of lines, whoever wrote them
//! upkeep      many small objects become few, old ones go
//! ```

mod lines;
mod log;
mod reader;
mod refusals;
mod upkeep;
mod witness;

pub use log::AuditLog;
pub(crate) use log::Counts;
pub(crate) use reader::{Question, read};
pub(crate) use upkeep::keep;
pub(crate) use witness::{Attempt, Origin, Witness};
