//! Signatures of releases: whose count, what is wrong with the others, and where they are. For the
//! verbs that sign and show, and for agents, which deploy nothing else.
//!
//! ```text
//! allowed  files of allowed signers, as ssh-keygen reads them
//! check    one signature against such a file, and against the release that it is to be of
//! store    signatures beside a release, in a registry or a layout
//! ```
//!
//! The first two are pure, but for the reading of the file.

mod allowed;
mod check;
mod store;

pub use allowed::{AllowedSigner, AllowedSigners, Fault, LineError, SignersError};
pub use check::{Checked, Invalid, Question, check};
pub use store::{Stored, attach, in_layout, in_repository};
