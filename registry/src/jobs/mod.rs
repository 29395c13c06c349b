//! Upkeep: what a registry does beside serving, on timers of its own and when an operator asks.
//! Run by [`crate::server`] and by the program's verbs.
//!
//! ```text
//! control                  an operator asks the process that serves a directory
//!   schedule               timers
//!     gc  retention        what goes, and what is collected
//!     totals               what was done, for the metrics
//! ```

mod control;
mod gc;
mod retention;
mod schedule;
mod totals;

use std::time::Duration;

use jiff::SignedDuration;

pub use control::{Answer, ControlError, ControlSocket, Wish, ask};
pub use gc::{Gc, collect, collect_audited};
pub use retention::{Retained, Retention, retain, retain_audited};
pub(crate) use schedule::run;
pub use schedule::{Jobs, Upkeep};
pub(crate) use totals::Rounds;
pub use totals::Totals;

/// A length of time that is too long to be told from for ever is as long as can be.
fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
